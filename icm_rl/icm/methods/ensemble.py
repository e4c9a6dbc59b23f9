"""Several labelings of one data set, as one: the mean of how sure they are.

"Three Concrete Challenges and Two Hopes for the Safety of Unsupervised Elicitation" (2026): what
one method takes for the truth another may not, and their mean is right where each alone is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Annotated, ClassVar

from icm_rl.data import read_rows
from icm_rl.errors import InputError
from icm_rl.icm.methods.base import Job, Labeling, MadeConsistent, check_two_labels
from icm_rl.icm.objective import LogOdds, label_centers, labels_log_odds, less
from icm_rl.icm.prompting import chosen
from icm_rl.settings import INPUT


@dataclass
class Ensemble(MadeConsistent):
    """The labels that finished labelings give together, each with the same weight."""

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "by the mean log-odds of several labelings"

    labelings: Annotated[list[str], INPUT] = field(
        default_factory=list,
        metadata={"help": "The labels.jsonl of labelings of the same data, two or more."},
    )

    def check(self, job: Job) -> None:
        if len(self.labelings) < 2:
            raise InputError("--labelings: name two or more, each the labels.jsonl of a labeling")
        check_two_labels(self, job)
        for path in self.labelings:
            self._read(job, path)

    def label(self, job: Job) -> Labeling:
        with job.metered() as spent:
            members = [
                standardized(self._read(job, path), self.centered) for path in self.labelings
            ]
            odds: LogOdds = {
                e.id: tuple(map(fmean, zip(*(of[e.id] for of in members), strict=True)))
                for e in job.examples
            }
            labels = chosen(job.examples, odds, job.task, self.consistency)
        return Labeling(labels, labels_log_odds(job.task, labels, odds), spent[0])

    def _read(self, job: Job, path: str) -> LogOdds:
        """Each example's log-odds of both labels.

        Raises:
            InputError: The file is no labeling of these examples by two labels.
        """
        if not Path(path).is_file():
            raise InputError(f"--labelings {path}: no such file; name a labeling's labels.jsonl")
        names, odds = list(job.task.verbalizers), {}
        for row in read_rows(path):
            label, value = row.label("label", names), row.number("log_odds")
            odds[row.text("id")] = (value, -value) if label == names[0] else (-value, value)
        missing = [e.id for e in job.examples if e.id not in odds]
        if missing:
            raise InputError(
                f"--labelings {path}: example '{missing[0]}' of this data set has no label there "
                f"({len(missing)} of {len(job.examples)} have none); label the same data"
            )
        return {e.id: odds[e.id] for e in job.examples}


def standardized(odds: Mapping[str, tuple[float, ...]], centered: bool) -> LogOdds:
    """Log-odds in their standard deviations, so that no labeling outweighs another.

    Args:
        odds: For each example the log-odds of each label.
        centered: Whether they are taken less their center over the examples first.
    """
    taken = less(dict(odds), label_centers(dict(odds))) if centered else dict(odds)
    size = sqrt(fmean(value * value for values in taken.values() for value in values)) or 1.0
    return {id: tuple(value / size for value in values) for id, values in taken.items()}
