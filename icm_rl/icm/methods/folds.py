"""Scalable ICM (Algorithms 3 and 4, Appendix G): fine-tuning in the place of contexts.

Mutual predictability is measured fold by fold: a model that learned the labels of all other folds
predicts those of one. So a data set may be larger than any context.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, ClassVar, Literal

from accelerate import PartialState
from annotated_types import Ge

from icm_rl.files import read_json, write_json
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods.answers import answered, round_record
from icm_rl.icm.methods.base import ByLogOdds, Cost, Job, Labeling, MadeConsistent, Need
from icm_rl.icm.methods.beginning import beginning
from icm_rl.icm.methods.learned import learned
from icm_rl.icm.objective import Labels, inconsistent_pairs
from icm_rl.icm.prompting import Shots, zero_shot_log_probs
from icm_rl.tasks import Example, Label, group_members


@dataclass
class Folds(FinetuneConfig, ByLogOdds):
    """Scalable ICM: Algorithms 3 and 4 of the paper."""

    name: ClassVar[str] = "folds"
    summary: ClassVar[str] = "with the paper's Algorithm 3, fine-tuning on folds"

    folds: Annotated[int, Ge(2)] = field(
        default=4, metadata={"help": "F: parts of the data, each labeled by training on the rest."}
    )
    rounds: Annotated[int, Ge(1)] = field(
        default=2, metadata={"help": "G: how often all examples are labeled again."}
    )
    initial_labels: Literal["zero_shot", "random_few_shot", "bootstrap"] = field(
        default="zero_shot",
        metadata={
            "help": "Whose labels the first round learns: 'zero_shot' (paper), or another's."
        },
    )
    alpha: Annotated[float, Ge(0)] = field(
        default=50.0,
        metadata={"help": "Weight of mutual predictability in the U that is reported."},
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.TRAINING}) | self._begins_by.needs

    def check(self, job: Job) -> None:
        self._begins_by.check(job)

    @property
    def _begins_by(self) -> MadeConsistent:
        return beginning(self.initial_labels, consistency=True, centered=self.centered)

    def label(self, job: Job) -> Labeling:
        found = self._begins_by.label(replace(job, folder=job.folder / "initial"))
        history = [self._record(job, 0, {}, found)]
        work, begun = replace(job, folder=job.folder / "rounds"), None
        for number in range(1, self.rounds + 1):
            before, found = found, self._round(work, number, found, begun)
            history.append(self._record(job, number, before.labels, found))
            if number < self.rounds:
                shots = [(e, found.labels[e.id]) for e in job.examples]
                name, title = f"theta-{number}", f"round {number}/{self.rounds}, all folds"
                _, spent = learned(work, shots, self, name, title, begun)
                found = replace(found, cost=found.cost + spent)
                begun = work.folder / name
        return replace(found, history=history, utility=history[-1]["utility"])

    def _round(self, work: Job, number: int, before: Labeling, begun: Path | None) -> Labeling:
        """All examples labeled anew, each by a model that has learned the other folds' labels.

        Args:
            work: The data set, with the rounds' folder.
            number: The round's, from 1.
            before: The labels that are learned, and what they cost.
            begun: The model that learns them; by default the base model.
        """
        rng = random.Random(f"folds {work.seed} {number}")
        parts = split_into_folds(work.examples, self.folds, rng)
        labels: dict[str, Label] = {}
        odds: dict[str, float] = {}
        cost = before.cost
        for index, part in enumerate(parts):
            name = f"round-{number}-fold-{index}"
            title = f"round {number}/{self.rounds}, fold {index + 1}/{self.folds}"
            file = work.folder / f"{name}.json"
            if not file.exists():
                shown = [e for other in parts[:index] + parts[index + 1 :] for e in other]
                shots = [(e, before.labels[e.id]) for e in shown]
                found = self._predicted(replace(work, examples=part), shots, name, title, begun)
                PartialState().wait_for_everyone()  # all have read what is removed
                if PartialState().is_main_process:
                    write_json(file, found)
                PartialState().wait_for_everyone()
            if PartialState().is_main_process:
                shutil.rmtree(work.folder / name, ignore_errors=True)
            saved = read_json(file)
            labels |= saved["labels"]
            odds |= saved["log_odds"]
            cost += Cost(**saved["cost"])
        return Labeling(labels, odds, cost)

    def _predicted(
        self, part: Job, shots: Shots, name: str, title: str, begun: Path | None
    ) -> dict[str, Any]:
        """The labels of a fold by a model that has learned the shots, and what both cost."""
        engine, spent = learned(part, shots, self, name, title, begun)
        own = replace(part, engine=engine, folder=part.folder / name)
        ask = partial(zero_shot_log_probs, engine=engine)
        found = answered(own, f"{title}, labels", ask, True, self.centered)
        cost = (found.cost + spent).to_json()
        return {"labels": found.labels, "log_odds": found.log_odds, "cost": cost}

    def _record(self, job: Job, number: int, before: Labels, found: Labeling) -> dict[str, Any]:
        """One line of the history; ``changes`` are the labels that the round changed."""
        groups = group_members(job.examples)
        contradictions = len(list(inconsistent_pairs(groups, job.task, found.labels)))
        predictability = mean(found.log_odds.values())
        return round_record(number, before, found.labels) | {
            "utility": self.alpha * predictability - contradictions,
            "mutual_predictability": predictability,
            "inconsistencies": contradictions,
        }


def split_into_folds(
    examples: Sequence[Example], folds: int, rng: random.Random
) -> list[list[Example]]:
    """Disjoint folds of about equal size, consistency groups kept whole."""
    groups = list(group_members(examples).values())
    rng.shuffle(groups)
    parts: list[list[Example]] = [[] for _ in range(folds)]
    for members in sorted(groups, key=len, reverse=True):
        min(parts, key=len).extend(members)
    return parts
