"""Labels that are there already, to compare with: gold ones, people's, and gold ones made wrong."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from icm_rl.icm.methods.base import Cost, Job, Labeling, Method, Need
from icm_rl.icm.objective import Labels
from icm_rl.tasks import Example, Label, Task, group_members

SURE = 20.0
"""The log-odds of a label that is given: as a probability it is 1 to eight digits."""


@dataclass
class Golden(Method):
    """The gold labels."""

    name: ClassVar[str] = "golden"
    summary: ClassVar[str] = "by the gold labels that come with them"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.GOLD})

    def label(self, job: Job) -> Labeling:
        return _given(job.gold)


@dataclass
class Human(Method):
    """People's labels."""

    name: ClassVar[str] = "human"
    summary: ClassVar[str] = "by the people's labels that come with them"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.HUMAN})

    def label(self, job: Job) -> Labeling:
        return _given(job.human)


@dataclass
class Perturbed(Method):
    """Gold labels of which some are made wrong at random (the paper's Figure 8).

    Labels that are as often right as another method's, but wrong elsewhere: where a model learns
    more from that method's, its mistakes are such as the model would make.
    """

    name: ClassVar[str] = "perturbed"
    summary: ClassVar[str] = "by gold labels of which some were made wrong at random"

    right_share: Annotated[float, Ge(0), Le(1)] = field(
        default=0.9, metadata={"help": "The share of labels that stay right."}
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.GOLD})

    def label(self, job: Job) -> Labeling:
        return _given(perturbed(job.examples, job.gold, job.task, self.right_share, job.seed))


def perturbed(
    examples: Sequence[Example], gold: Labels, task: Task, right_share: float, seed: int
) -> dict[str, Label]:
    """Gold labels of which a share stays right, to the nearest example or pair.

    The two examples of a pair that must differ go wrong together, so that they still do.

    Args:
        examples: Whole consistency groups.
        gold: Their gold labels.
        task: Gives the labels and the relation.
        right_share: The share that stays right.
        seed: Draws what goes wrong, and of more than two labels as what.
    """
    rng = random.Random(f"perturbed {seed}")
    units: list[list[Example]] = []
    for members in group_members(examples).values():
        units += [members] if _must_differ(members, task) else [[e] for e in members]
    rng.shuffle(units)
    labels, wrong = dict(gold), round((1 - right_share) * len(examples))
    for unit in units:
        if wrong < len(unit) / 2:  # to the nearest
            break
        wrong -= len(unit)
        for example in unit:
            others = [label for label in task.verbalizers if label != gold[example.id]]
            labels[example.id] = rng.choice(others)
    return {example.id: labels[example.id] for example in examples}


def _must_differ(members: list[Example], task: Task) -> bool:
    """Whether these are the two orders of a pair: with one label for both they contradict."""
    return len(members) == 2 and not any(
        task.consistent(members[0], label, members[1], label) for label in task.verbalizers
    )


def _given(labels: Labels) -> Labeling:
    return Labeling(dict(labels), dict.fromkeys(labels, SURE), Cost())
