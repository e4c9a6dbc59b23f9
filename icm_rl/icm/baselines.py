"""What ICM is compared with: zero-shot and many-shot prompting of the same model."""

import random
from collections.abc import Mapping, Sequence

from icm_rl.engines import Engine, Request
from icm_rl.icm.objective import leave_one_out
from icm_rl.tasks import Example, Label, Task, group_members


def zero_shot_log_probs(
    examples: Sequence[Example], engine: Engine
) -> dict[str, tuple[float, ...]]:
    """For each example the log-probability of each label without any demonstration."""
    answers = engine.label_log_probs([Request((), example.text) for example in examples])
    return {e.id: answer for e, answer in zip(examples, answers, strict=True)}


def zero_shot(examples: Sequence[Example], task: Task, engine: Engine) -> dict[str, Label]:
    """The most likely label of each example without any demonstration."""
    log_probs = zero_shot_log_probs(examples, engine)
    return {id: task.most_likely(answer) for id, answer in log_probs.items()}


def many_shot(
    examples: Sequence[Example], labels: Mapping[str, Label], task: Task, engine: Engine
) -> dict[str, Label]:
    """The most likely label of each example, given the labels of all other groups.

    The example's own group is left out whole: what is known of its other order, or of another
    answer to its question, would give its label away.
    """
    groups = list(group_members(examples).values())
    pieces = [
        [piece for e in members for piece in task.demonstration(e, labels[e.id])]
        for members in groups
    ]
    requests = [
        Request(tuple(piece for other in order for piece in pieces[other]), example.text)
        for members, order in zip(groups, leave_one_out(len(groups)), strict=True)
        for example in members
    ]
    answers = engine.label_log_probs(requests)
    ids = [example.id for members in groups for example in members]
    return {id: task.most_likely(answer) for id, answer in zip(ids, answers, strict=True)}


def random_labels(examples: Sequence[Example], task: Task, rng: random.Random) -> dict[str, Label]:
    """Each example's label drawn from all labels, each as likely as the other."""
    labels = list(task.labels)
    return {example.id: labels[int(rng.random() * len(labels))] for example in examples}


def accuracy(labels: Mapping[str, Label], gold: Mapping[str, Label]) -> float | None:
    """The share of gold-labeled examples whose label is the gold one."""
    known = [id for id in labels if id in gold]
    if not known:
        return None
    return sum(labels[id] == gold[id] for id in known) / len(known)
