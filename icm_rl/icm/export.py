"""The labels as a data set of their own, with a card that says how they were made."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from icm_rl.cards import public_name
from icm_rl.files import write_text
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.methods import Method, Need
from icm_rl.settings import identity

_CARD = """---
{front}
---

# {title}

{count} {what}, labeled {by} by a base model, {method}: unsupervised elicitation
([Wen et al. 2025](https://arxiv.org/abs/2506.10139)) by icm_rl.

| | |
|---|---|
| method | `{name}` |
| base model | `{model}` |
| task | `{task}` |
| data | `{data}` |
{measured}
The labels say what the base model can best predict from the other labels. They are no person's
judgement: look at a sample before you rely on them, and expect the base model's own misconceptions
in them.

## Columns

{columns}

## Settings

```yaml
{settings}
```
"""
_COLUMNS = {
    "prompt": "the conversation before the responses",
    "chosen": "the response labeled better",
    "rejected": "the response labeled worse",
    "id": "the example's id in the data",
    "text": "what the base model was shown, up to the label",
    "label": "the label found",
    "log_odds": "the label's log-odds given the labels of other examples; a preference's are the "
    "mean of those of its two orders",
    "margin": "how far the two responses' grades are apart, of the whole range",
    "group": "the consistency group: examples whose labels constrain each other",
    "gold": "the gold label, which the search did not see",
    "query": "the prompt of the pair",
    "a": "the response that the example calls A",
    "b": "the response that the example calls B",
}


def export(
    rows: Sequence[Mapping[str, Any]],
    config: IcmConfig,
    method: Method,
    metrics: Mapping[str, Any],
    folder: Path,
) -> None:
    """Writes the rows as Parquet with a data set card; ``datasets.load_dataset`` reads the folder.

    Args:
        rows: Labels, or preferences in TRL's format.
        config: The settings with which they were made.
        method: How they were made, with its settings.
        metrics: The stage's metrics.
        folder: Where the files go.
    """
    path = folder / "data" / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    Dataset.from_list(list(rows)).to_parquet(unfinished)
    unfinished.replace(path)
    write_text(folder / "README.md", str(_card(rows, config, method, metrics)))


def push(folder: Path, name: str) -> str:
    """Uploads an exported folder to a private data set on the Hub and returns its address."""
    api = HfApi()
    api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
    return str(api.upload_folder(repo_id=name, folder_path=folder, repo_type="dataset").repo_url)


def _card(
    rows: Sequence[Mapping[str, Any]],
    config: IcmConfig,
    method: Method,
    metrics: Mapping[str, Any],
) -> DatasetCard:
    preferences = "chosen" in rows[0]
    front = DatasetCardData(
        pretty_name=f"ICM labels, {config.task}",
        tags=["icm", "unsupervised-elicitation", *(["preference"] if preferences else [])],
        configs=[{"config_name": "default", "data_files": "data/train.parquet"}],
    )
    measured = {"pairs of labels that contradict each other": str(metrics["inconsistencies"])}
    if "utility" in metrics:
        measured["mutual predictability and consistency, U"] = f"{metrics['utility']:.2f}"
    if metrics["label_accuracy"] is not None:
        measured["labels that agree with gold labels"] = f"{metrics['label_accuracy']:.1%}"
    default = identity(IcmConfig(), type(method)())
    changed = {
        name: value for name, value in identity(config, method).items() if value != default[name]
    }
    return DatasetCard(
        _CARD.format(
            front=front.to_yaml(),
            title=front.pretty_name,
            count=f"{len(rows):,}",
            what="preference pairs" if preferences else "examples",
            by="from gold labels" if Need.GOLD in method.needs else "without any label",
            method=method.summary,
            name=public_name(method.name),
            model=public_name(config.model),
            task=config.task,
            data=public_name(str(config.source)),
            measured="".join(f"| {name} | {value} |\n" for name, value in measured.items()),
            columns="\n".join(f"- `{name}`: {_COLUMNS[name]}" for name in rows[0]),
            settings=yaml.safe_dump(changed, sort_keys=False).rstrip(),
        )
    )
