"""Labels by prompting alone: without demonstrations, or after some with given labels."""

import random
from collections.abc import Sequence
from itertools import chain

from icm_rl.engines import Engine, Request
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.objective import Labels, LogOdds, LogProbs, all_log_odds, leave_one_out
from icm_rl.tasks import Example, Label, Task, group_members

Shots = Sequence[tuple[Example, Label]]
"""Examples with the labels with which they stand in a context, in their order there."""


def zero_shot_log_probs(examples: Sequence[Example], engine: Engine) -> LogProbs:
    """For each example the log-probability of each label without any demonstration."""
    answers = engine.label_log_probs([Request((), example.text) for example in examples])
    return {e.id: answer for e, answer in zip(examples, answers, strict=True)}


def few_shot_log_probs(
    examples: Sequence[Example], shots: Sequence[Shots], task: Task, engine: Engine
) -> LogProbs:
    """For each example the log-probability of each label after the shots that are its own."""
    requests = [
        Request(tuple(chain.from_iterable(task.demonstration(*shot) for shot in own)), example.text)
        for example, own in zip(examples, shots, strict=True)
    ]
    answers = engine.label_log_probs(requests)
    return {e.id: answer for e, answer in zip(examples, answers, strict=True)}


def most_likely(odds: LogOdds, task: Task) -> dict[str, Label]:
    """The most likely label of each example, by the log-odds of its labels."""
    return {id: task.most_likely(of_labels) for id, of_labels in odds.items()}


def chosen(
    examples: Sequence[Example], odds: LogOdds, task: Task, consistency: bool
) -> dict[str, Label]:
    """The most likely label of each example, made consistent in its group if so asked.

    Args:
        examples: Whole consistency groups.
        odds: For each example the log-odds of each label.
        task: Gives the labels and the relation.
        consistency: Whether the most confident example of a group decides (Algorithm 4).
    """
    if consistency:
        return consistency_fix_maxprob(examples, task, odds)
    return most_likely(odds, task)


def many_shot(
    examples: Sequence[Example],
    labels: Labels,
    task: Task,
    engine: Engine,
    centered: bool = False,
) -> dict[str, Label]:
    """The most likely label of each example, given the labels of all other groups."""
    return most_likely(held_out_odds(examples, labels, task, engine, centered), task)


def held_out_odds(
    examples: Sequence[Example], labels: Labels, task: Task, engine: Engine, centered: bool
) -> LogOdds:
    """The log-odds of each example's labels, given the labels of all other groups.

    The example's own group is left out whole: what is known of its other order, or of another
    answer to its question, would give its label away.
    """
    groups = list(group_members(examples).values())
    shots = [
        [(e, labels[e.id]) for other in order for e in groups[other]]
        for order in leave_one_out(len(groups))
    ]
    asked = [(e, own) for members, own in zip(groups, shots, strict=True) for e in members]
    log_probs = few_shot_log_probs([e for e, _ in asked], [own for _, own in asked], task, engine)
    return all_log_odds(log_probs, centered)


def random_labels(examples: Sequence[Example], task: Task, rng: random.Random) -> dict[str, Label]:
    """Each example's label drawn from all labels, each as likely as the other."""
    labels = list(task.verbalizers)
    return {example.id: labels[int(rng.random() * len(labels))] for example in examples}


def accuracy(labels: Labels, gold: Labels) -> float | None:
    """The share of gold-labeled examples whose label is the gold one."""
    known = [id for id in labels if id in gold]
    if not known:
        return None
    return sum(labels[id] == gold[id] for id in known) / len(known)
