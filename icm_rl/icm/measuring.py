"""Measures labels: their accuracy where gold is known, their contradictions, the baselines."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from icm_rl.icm.methods import Job, Labeling, Method
from icm_rl.icm.objective import Labels, all_log_odds, inconsistent_pairs
from icm_rl.icm.prompting import (
    accuracy,
    chosen,
    many_shot,
    most_likely,
    random_labels,
    zero_shot_log_probs,
)
from icm_rl.icm.surface import surface
from icm_rl.progress import Progress
from icm_rl.tasks import Dataset, Example, Label, Task, grades, group_members


def labeling_metrics(
    labeling: Labeling, method: Method, data: Dataset, task: Task
) -> dict[str, Any]:
    """The metrics of what a method found; accuracies are None where no gold labels are known."""
    labels, cost = labeling.labels, labeling.cost
    contradictions = inconsistent_pairs(group_members(data.examples), task, labels)
    utility = {} if labeling.utility is None else {"utility": labeling.utility}
    return {
        "method": method.name,
        "method_summary": method.summary,
        "examples": len(labels),
        "gold_labels": _counts(data.gold[id] for id in labels if id in data.gold),
        **utility,
        **labeling.figures,
        "inconsistencies": len(list(contradictions)),
        "labeling_seconds": round(cost.seconds, 2),
        "computed_tokens": cost.computed_tokens,
        "cached_tokens": cost.prompt_tokens - cost.computed_tokens,
        "trained_tokens": cost.trained_tokens,
        "missing_labels": cost.missing_labels,
        "label_shares": {
            label: count / len(labels) for label, count in _counts(labels.values()).items()
        },
        **_confusion(labels, data, task),
        **_surface(labels, data),
        "label_accuracy": accuracy(labels, data.gold),
        "human_label_accuracy": accuracy(data.human, data.gold) if data.human else None,
    }


def _surface(labels: Labels, data: Dataset) -> dict[str, Any]:
    """How much of the labels simple features tell, and of the gold ones, where all are known."""
    found = surface(data, labels)
    if found and all(id in data.gold for id in labels):
        found["gold_accuracy"] = surface(data, {id: data.gold[id] for id in labels}).get("accuracy")
    return {"surface": found} if found else {}


def _confusion(labels: Labels, data: Dataset, task: Task) -> dict[str, dict[str, dict[str, int]]]:
    """How many of each gold label, or gold grade, got which, where there are more than two."""
    found: Mapping[str, Any] = labels
    gold: Mapping[str, Any] = data.gold
    if task.name == grades.TASK.name:
        found, gold = grades.grades_of(data, labels), grades.grades_of(data, data.gold)
    elif len(task.verbalizers) == 2:
        return {}
    known = [id for id in found if id in gold]
    rows = {
        str(label): _counts(found[id] for id in known if gold[id] == label)
        for label in sorted({gold[id] for id in known})
    }
    return {"confusion": rows} if rows else {}


def _counts(labels: Iterable[Label]) -> dict[str, int]:
    return {str(label): count for label, count in Counter(labels).items()}


def baseline_metrics(
    labeling: Labeling, method: Method, data: Dataset, job: Job
) -> dict[str, float | None]:
    """What the labels found are to be compared with, where gold labels are known.

    Accuracy of prompting with no labels, and with each kind of labels of the rest of a pool; and of
    a method that maximizes U the U of the gold labels, by the same scorer.

    Many-shot prompting leaves an example's group out, and those without a label. It is measured
    where the method labeled in pools, which fit the model's context. Labels are decided as the
    method decides on them, by centered log-odds or by plain ones. Several processes share out the
    pools; each returns the whole.
    """
    parts, processes = labeling.pools or [data.examples], PartialState()
    own = parts[processes.process_index :: processes.num_processes]
    progress = Progress("baselines", len(own), unit="pool", shown=processes.is_main_process)
    measured = []
    for part in own:
        measured.append(_baselines(part, labeling, method, data, job))
        progress.advance()
    progress.close()
    predictions: dict[str, dict[str, Label]] = {}
    utilities = []
    for found, utility in gather_object(measured):
        for name, of_part in found.items():
            predictions.setdefault(name, {}).update(of_part)
        if utility is not None:
            utilities.append(utility)
    metrics: dict[str, float | None] = {
        f"{name}_accuracy": accuracy(found, data.gold) for name, found in predictions.items()
    }
    return metrics | ({"gold_utility": mean(utilities)} if len(utilities) == len(parts) else {})


def _baselines(
    part: Sequence[Example], labeling: Labeling, method: Method, data: Dataset, job: Job
) -> tuple[dict[str, dict[str, Label]], float | None]:
    """The predictions for a pool by each prompting, and the U of its gold labels."""
    task, engine = job.task, job.engine
    rng = random.Random(f"random labels {job.seed}")
    known = {
        "icm_many_shot": labeling.labels,
        "golden_many_shot": data.gold,
        "human_many_shot": data.human,
        "random_many_shot": random_labels(part, task, rng),
    }
    found = {}
    for name, shots in known.items():
        labeled = [example for example in part if example.id in shots]
        if labeling.pools and labeled:
            found[name] = many_shot(labeled, shots, task, engine, method.centered)
    alone = all_log_odds(zero_shot_log_probs(part, engine), method.centered)
    found["zero_shot"] = most_likely(alone, task)
    found["consistent_zero_shot"] = chosen(part, alone, task, consistency=True)
    scorer = method.scorer(job, part, engine)
    if scorer is None or any(example.id not in data.gold for example in part):
        return found, None
    gold = {example.id: data.gold[example.id] for example in part}
    return found, scorer.score(gold, scorer.arranged(gold)).utility
