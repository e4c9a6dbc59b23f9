"""What ICM is compared with: zero-shot and many-shot prompting of the same model."""

import random
from collections.abc import Mapping, Sequence

from icm_rl.engines import Engine, Request
from icm_rl.icm.objective import leave_one_out
from icm_rl.tasks import Example, Task, group_members


def zero_shot(examples: Sequence[Example], task: Task, engine: Engine) -> dict[str, float]:
    """log P(True) − log P(False) of each example without any demonstration."""
    answers = engine.label_log_probs([Request((), example.text) for example in examples])
    return {e.id: true - false for e, (true, false) in zip(examples, answers, strict=True)}


def many_shot(
    examples: Sequence[Example], labels: Mapping[str, bool], task: Task, engine: Engine
) -> dict[str, float]:
    """log P(True) − log P(False) of each example, given the labels of all other groups.

    The example's own group is left out whole: what is known of its other order, or of another
    answer to its question, would give its label away.
    """
    groups = list(group_members(examples).values())
    texts = [
        [f"{e.text}{task.labels[not labels[e.id]]}\n\n" for e in members] for members in groups
    ]
    requests = [
        Request(tuple(text for other in order for text in texts[other]), example.text)
        for members, order in zip(groups, leave_one_out(len(groups)), strict=True)
        for example in members
    ]
    answers = engine.label_log_probs(requests)
    ids = [example.id for members in groups for example in members]
    return {id: true - false for id, (true, false) in zip(ids, answers, strict=True)}


def random_labels(examples: Sequence[Example], rng: random.Random) -> dict[str, bool]:
    """A fair coin's labels."""
    return {example.id: rng.random() < 0.5 for example in examples}


def accuracy(predictions: Mapping[str, float | bool], gold: Mapping[str, bool]) -> float | None:
    """The share of gold-labeled examples whose prediction (a label, or log-odds) is right."""
    known = [id for id in predictions if id in gold]
    if not known:
        return None
    return sum((predictions[id] > 0) == gold[id] for id in known) / len(known)
