"""Few-shot prompting with its own labels, round after round.

"Eliciting base models with simple unsupervised techniques" (2026): what most of ICM's gain comes
from is that predictions become demonstrations, and that they are made consistent.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from typing import Annotated, ClassVar

from annotated_types import Ge

from icm_rl.icm.methods.answers import round_record
from icm_rl.icm.methods.base import Job, Labeling
from icm_rl.icm.methods.random_few_shot import RandomFewShot, random_shots
from icm_rl.icm.objective import Labels
from icm_rl.icm.prompting import Shots
from icm_rl.tasks import Example, Label


@dataclass
class Bootstrap(RandomFewShot):
    """Random few-shot labels first; then each example is asked after others with those labels."""

    name: ClassVar[str] = "bootstrap"
    summary: ClassVar[str] = "each in the context of others, with the labels of the round before"

    rounds: Annotated[int, Ge(1)] = field(
        default=3,
        metadata={"help": "R: how often all are labeled again, with the last labels in context."},
    )

    def label(self, job: Job) -> Labeling:
        labeling = self.labeled_after(job, partial(random_shots, job), "random labels", "round-0")
        cost, history = labeling.cost, [round_record(0, {}, labeling.labels)]
        for number in range(1, self.rounds + 1):
            before = labeling.labels
            shots = partial(labeled_shots, job, by_label(job.examples, before), number)
            title = f"round {number}/{self.rounds}"
            labeling = self.labeled_after(job, shots, title, f"round-{number}")
            cost += labeling.cost
            history.append(round_record(number, before, labeling.labels))
        return replace(labeling, cost=cost, history=history)


def by_label(examples: Sequence[Example], labels: Labels) -> dict[Label, list[Example]]:
    """The examples of each label that some have."""
    parts: dict[Label, list[Example]] = {}
    for example in examples:
        parts.setdefault(labels[example.id], []).append(example)
    return parts


def labeled_shots(
    job: Job,
    labeled: Mapping[Label, Sequence[Example]],
    number: int,
    example: Example,
    group_size: int,
    count: int,
    draw: int,
) -> Shots:
    """Examples of other groups with their labels, as many of each label as there are, shuffled.

    Where a label has too few, others fill their places.

    Args:
        job: The data set.
        labeled: The examples of each label.
        number: The round's.
        example: The one that is to be labeled.
        group_size: The examples of its group, itself included.
        count: N, how many others are drawn.
        draw: The number of the context.
    """
    rng = random.Random(f"bootstrap {job.seed} {number} {draw} {example.id}")
    labels = list(job.task.verbalizers)
    rng.shuffle(labels)  # where N is no multiple of their number, chance has the last ones
    wanted = Counter(islice(cycle(labels), count))
    shots: list[tuple[Example, Label]] = []
    spare: list[tuple[Example, Label]] = []
    for label, others in labeled.items():
        drawn = rng.sample(others, min(count + group_size, len(others)))
        own = [(e, label) for e in drawn if e.group != example.group]
        shots += own[: wanted[label]]
        spare += own[wanted[label] :]
    rng.shuffle(spare)
    shots += spare[: count - len(shots)]
    rng.shuffle(shots)
    return shots
