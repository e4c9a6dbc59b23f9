"""Writes labels: one by one, as history, as preferences, and as a data set with a card."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from icm_rl.files import write_jsonl
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.export import export
from icm_rl.icm.methods import Labeling, Method
from icm_rl.icm.objective import Labels
from icm_rl.icm.prompting import accuracy
from icm_rl.tasks import Dataset, Example, Label, group_members
from icm_rl.tasks.pairs import as_query


def write_labels(
    folder: Path,
    data: Dataset,
    labeling: Labeling,
    config: IcmConfig,
    method: Method,
    metrics: Mapping[str, Any],
) -> dict[str, int]:
    """Writes the stage's files but for ``metrics.json``.

    Returns:
        Of preferences, how many ``pairs`` they are and how many pairs were dropped.
    """
    counts = {}
    rows = _label_rows(data, labeling)
    write_jsonl(folder / "labels.jsonl", rows)
    write_jsonl(folder / "history.jsonl", _history(labeling, data.gold))
    if data.pairs:
        preferences = preference_rows(data, labeling.labels, labeling.log_odds)
        counts = {"pairs": len(preferences), "pairs_dropped": len(data.pairs) - len(preferences)}
        write_jsonl(folder / "preferences.jsonl", preferences)
        rows = preferences or rows
    export(rows, config, method, metrics, folder / "dataset")
    return counts


def preference_rows(
    data: Dataset, labels: Labels, log_odds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Rows in TRL's conversational preference format for the pairs whose labels agree.

    A pair is left out where its examples are unlabeled or name neither or both responses better.

    Args:
        data: Pairs and their examples.
        labels: The label of each example.
        log_odds: The log-odds of each label, where known; a preference's are their mean.
    """
    members = group_members(data.examples)
    rows = []
    for group, pair in data.pairs.items():
        labeled = [e for e in members[group] if e.id in labels]
        votes = {labels[e.id] == (e.key == "A>B") for e in labeled}  # True: the first is better
        if len(votes) == 1:
            better = pair.responses if votes.pop() else pair.responses[::-1]
            row: dict[str, Any] = {
                "prompt": pair.prompt,
                "chosen": [{"role": "assistant", "content": better[0]}],
                "rejected": [{"role": "assistant", "content": better[1]}],
            }
            sure = {"log_odds": mean(log_odds[e.id] for e in labeled)} if log_odds else {}
            rows.append(row | sure)
    return rows


def _label_rows(data: Dataset, labeling: Labeling) -> list[dict[str, Any]]:
    return [
        {
            "id": example.id,
            "text": example.text,
            "label": labeling.labels[example.id],
            "log_odds": labeling.log_odds[example.id],
            "group": example.group,
            **({"gold": data.gold[example.id]} if example.id in data.gold else {}),
            **_pair_columns(data, example),
        }
        for example in data.examples
    ]


def _pair_columns(data: Dataset, example: Example) -> dict[str, str]:
    """The prompt and the two responses of which one order of a pair was made."""
    if example.group not in data.pairs:
        return {}
    pair = data.pairs[example.group]
    a, b = pair.responses if example.key == "A>B" else pair.responses[::-1]
    return {"query": as_query(pair.prompt), "a": a, "b": b}


def _history(labeling: Labeling, gold: Labels) -> list[dict[str, Any]]:
    """All iterations; with the accuracy of the pool's labels so far, where gold is known."""
    rows: list[dict[str, Any]] = []
    labels: dict[int, dict[str, Label]] = {}
    for record in labeling.history:
        so_far = labels.setdefault(record["pool"], {})
        so_far |= record["changes"]
        rows.append({**record, "accuracy": accuracy(so_far, gold)})
    return rows
