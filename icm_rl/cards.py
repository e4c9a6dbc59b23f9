"""The cards of what the stages make, in the Hub's format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from icm_rl.files import read_json, write_text

_CARD = """---
{front}
---

# {title}

{what} By icm_rl; no person labeled anything for it, unless the data named below say so.

| | |
|---|---|
{rows}

## Settings

```yaml
{settings}
```
"""


def write_model_card(
    folder: Path,
    run: Path,
    title: str,
    what: str,
    base_model: str,
    tags: list[str],
    metrics: Mapping[str, Any],
) -> None:
    """Writes ``README.md`` beside a model's weights.

    Args:
        folder: Where the weights are.
        run: The stage's folder, whose ``settings.json`` says how they were made.
        title: The model's name.
        what: What it is, in a sentence.
        base_model: What it was trained from.
        tags: For the Hub's search.
        metrics: What was measured; numbers alone are shown.
    """
    base = public_name(base_model)
    front = ModelCardData(
        library_name="transformers",
        tags=["icm_rl", *tags],
        base_model=base if "/" in base else None,
    )
    shown = {"base model": f"`{base}`"}
    shown |= {name: f"{value:.4g}" for name, value in metrics.items() if _is_number(value)}
    settings = read_json(run / "settings.json")["settings"]
    named = {name: _public(value) for name, value in settings.items() if value is not None}
    card = ModelCard(
        _CARD.format(
            front=front.to_yaml(),
            title=title,
            what=what,
            rows="\n".join(f"| {_metric(name)} | {value} |" for name, value in shown.items()),
            settings=yaml.safe_dump(named, sort_keys=False, allow_unicode=True).rstrip(),
        )
    )
    write_text(folder / "README.md", str(card))


def write_policy_card(run: Path, method: str, base_model: str, metrics: Mapping[str, Any]) -> None:
    """Writes the card of a run's ``policy``."""
    write_model_card(
        run / "policy",
        run,
        f"Policy: {run.name}",
        f"It was trained by {method} against the reward models under Settings.",
        base_model,
        [method.lower(), "rlaif"],
        metrics,
    )


def public_name(source: str) -> str:
    """A name on the Hub as it is; of a local path only the last part."""
    return Path(source).name if Path(source).exists() else source


def _public(value: Any) -> Any:
    if isinstance(value, list):
        return [_public(one) for one in value]
    return public_name(value) if isinstance(value, str) and "/" in value else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _metric(name: str) -> str:
    """A metric's name; of a reward model's path, which it may hold, only the last part."""
    head, _, path = name.partition("rewards/")
    return f"{head}rewards/{Path(path).name}" if path else name
