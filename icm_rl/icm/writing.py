"""Writes labels: one by one, as history, as preferences, and as a data set with a card."""

import math
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from icm_rl.files import write_jsonl
from icm_rl.icm.config import IcmConfig, Pairing
from icm_rl.icm.export import export
from icm_rl.icm.methods import Labeling, Method
from icm_rl.icm.objective import Labels
from icm_rl.icm.prompting import accuracy
from icm_rl.tasks import Dataset, Example, Label, group_members
from icm_rl.tasks.base import Messages, Responses
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
    if data.pairs or data.responses:
        preferences = preference_rows(
            data, labeling.labels, labeling.log_odds, config.pairing or "best", config.min_log_odds
        )
        counts = {"pairs": len(preferences)}
        if data.pairs:
            counts["pairs_dropped"] = len(data.pairs) - len(preferences)
        write_jsonl(folder / "preferences.jsonl", preferences)
        rows = preferences or rows
    export(rows, config, method, metrics, folder / "dataset")
    return counts


def preference_rows(
    data: Dataset,
    labels: Labels,
    log_odds: Mapping[str, float] | None = None,
    pairing: Pairing = "all",
    min_log_odds: float | None = None,
) -> list[dict[str, Any]]:
    """Rows in TRL's conversational preference format.

    A pair whose examples are its two orders is left out where they are unlabeled or name neither or
    both responses better. Of responses that were judged by themselves, one is better than another
    by its log-odds of True; where log-odds are not known, those labeled True are better than those
    labeled False. Of graded responses the grade counts first, and of equal ones the mean over the
    claims; how far two grades are apart, of the whole range, is the ``margin``.

    Args:
        data: Pairs or responses, and their examples.
        labels: The label of each example.
        log_odds: The log-odds of each label, where known. A preference's are the mean of those of
            its two orders, or the difference of its two responses'.
        pairing: Of a prompt's responses, ``best``, the best against each other one, or ``all``.
        min_log_odds: Preferences with lower log-odds are left out, where there is such a bound.
    """
    rows = _of_pairs(data, labels, log_odds)
    for found in data.responses.values():
        rows += _of_responses(found, labels, log_odds, pairing)
    if min_log_odds is None:
        return rows
    return [row for row in rows if row.get("log_odds", math.inf) >= min_log_odds]


def _of_pairs(
    data: Dataset, labels: Labels, log_odds: Mapping[str, float] | None
) -> list[dict[str, Any]]:
    members = group_members(data.examples)
    rows = []
    for group, pair in data.pairs.items():
        labeled = [e for e in members[group] if e.id in labels]
        votes = {labels[e.id] == (e.key == "A>B") for e in labeled}  # True: the first is better
        if len(votes) == 1:
            better = pair.responses if votes.pop() else pair.responses[::-1]
            sure = mean(log_odds[e.id] for e in labeled) if log_odds else None
            rows.append(_preference(pair.prompt, *better, sure))
    return rows


def _of_responses(
    found: Responses, labels: Labels, log_odds: Mapping[str, float] | None, pairing: Pairing
) -> list[dict[str, Any]]:
    merits = {
        id: mean(_merit(claim, labels, log_odds) for claim in claims)
        for id, claims in found.claims.items()
        if all(claim in labels for claim in claims)
    }
    graded = any(len(claims) > 1 for claims in found.claims.values())
    grades = {id: mean(labels[claim] is True for claim in found.claims[id]) for id in merits}
    rank = {id: (grades[id] if graded else 0, merits[id]) for id in merits}
    order = sorted(rank, key=lambda id: rank[id], reverse=True)
    pairs = list(combinations(order, 2))
    if pairing == "best":
        pairs = pairs[: len(order) - 1]
    return [
        _preference(
            found.prompt,
            found.texts[one],
            found.texts[other],
            merits[one] - merits[other] if log_odds else None,
            grades[one] - grades[other] if graded else None,
        )
        for one, other in pairs
        if rank[one] > rank[other]
    ]


def _merit(claim: str, labels: Labels, log_odds: Mapping[str, float] | None) -> float:
    """How sure it is that a claim is True; below 0 that it is not."""
    sure = log_odds[claim] if log_odds else 0.5
    return sure if labels[claim] is True else -sure


def _preference(
    prompt: Messages,
    chosen: str,
    rejected: str,
    log_odds: float | None,
    margin: float | None = None,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }
    numbers = {"log_odds": log_odds, "margin": margin}
    return row | {name: value for name, value in numbers.items() if value is not None}


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
    """All iterations; with the accuracy of the pool's labels so far, where gold is known.

    A method without iterations labels everything in one.
    """
    whole = {"pool": 0, "iteration": 0, "labeled": len(labeling.labels), "changes": labeling.labels}
    rows: list[dict[str, Any]] = []
    labels: dict[int, dict[str, Label]] = {}
    for record in labeling.history or [whole]:
        so_far = labels.setdefault(record["pool"], {})
        so_far |= record["changes"]
        rows.append({**record, "accuracy": accuracy(so_far, gold)})
    return rows
