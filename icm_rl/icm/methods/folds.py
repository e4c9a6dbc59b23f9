"""Scalable ICM (Algorithms 3 and 4, Appendix G): fine-tuning in the place of contexts.

Mutual predictability is measured fold by fold: a model that learned the labels of all other folds
predicts those of one. So a data set may be larger than any context.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, ClassVar, Literal

from accelerate import PartialState
from annotated_types import Ge
from transformers import PreTrainedModel

from icm_rl.engines import LocalEngine
from icm_rl.files import read_json, write_json
from icm_rl.icm.finetune import FinetuneConfig, finetuned, trained_once
from icm_rl.icm.methods.base import ByLogOdds, Cost, Job, Labeling, MadeConsistent, Need
from icm_rl.icm.methods.beginning import beginning
from icm_rl.icm.objective import Labels, all_log_odds, inconsistent_pairs, labels_log_odds
from icm_rl.icm.prompting import chosen, zero_shot_log_probs
from icm_rl.progress import Progress
from icm_rl.tasks import Example, Label, group_members

_LABELED_AT_ONCE = 512
"""Examples between two steps of the progress bar."""


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
        first = self._begins_by.label(replace(job, folder=job.folder / "initial"))
        return _Rounds(self, job, first).run()


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


def _fold_name(number: int, index: int) -> str:
    return f"round-{number}-fold-{index}"


class _Rounds:
    """Algorithm 3 on a data set, continued where an earlier run was stopped.

    Several processes share out the folds of a round.
    """

    def __init__(self, method: Folds, job: Job, first: Labeling):
        assert isinstance(job.engine, LocalEngine)
        self.method, self.job, self.engine, self.first = method, job, job.engine, first
        self.examples, self.task, self.work = job.examples, job.task, job.folder / "rounds"
        self.processes, self._groups = PartialState(), group_members(job.examples)
        rank, count = self.processes.process_index, self.processes.num_processes
        self._folds = {
            number: split_into_folds(
                job.examples, method.folds, random.Random(f"folds {job.seed} {number}")
            )
            for number in range(1, method.rounds + 1)
        }
        self._own = range(rank, method.folds, count)
        self._progress = self._started_progress()

    def run(self) -> Labeling:
        """All rounds, begun from the first labels.

        Returns:
            The last round's labels, their log-odds by the models that had not seen them, and the
            history with one record a round.
        """
        theta, labels, odds = self.engine.model, self.first.labels, self.first.log_odds
        history = [self._record(0, {}, labels, odds)]
        for number, folds in self._folds.items():
            for index in self._own:
                name = _fold_name(number, index)
                if not self._file(name).exists():
                    before = Cost.so_far(self.engine)
                    shown = [e for fold in folds[:index] + folds[index + 1 :] for e in fold]
                    predictor = self._trained(theta, shown, labels, name)
                    trained = self.job.trained(shown, self.method.num_train_epochs)
                    self._label(name, folds[index], predictor, before, trained)
            earlier, (labels, odds) = labels, self._merged(number)
            history.append(self._record(number, earlier, labels, odds))
            if number < self.method.rounds:
                theta = self._next_theta(theta, labels, f"theta-{number}")
        self._progress.close()
        costs = (Cost(**read_json(file)["cost"]) for file in self.work.glob("*.json"))
        cost = sum(costs, self.first.cost)
        return Labeling(labels, odds, cost, history, history[-1]["utility"])

    def _started_progress(self) -> Progress:
        """Counts the examples that this process learns and labels, those of earlier runs too."""
        count, epochs = len(self.examples), self.method.num_train_epochs
        work = {}
        for number, folds in self._folds.items():
            for index in self._own:
                learned = epochs * (count - len(folds[index]))
                work[_fold_name(number, index)] = learned + len(folds[index])
        if self.processes.is_main_process:
            thetas = range(1, self.method.rounds)
            work |= {f"theta-{number}": epochs * count for number in thetas}
        done = sum(examples for name, examples in work.items() if self._file(name).exists())
        shown = self.processes.is_main_process
        return Progress("ICM", sum(work.values()), done, "example", shown)

    def _file(self, name: str) -> Path:
        return self.work / f"{name}.json"

    def _label(
        self,
        name: str,
        examples: Sequence[Example],
        model: PreTrainedModel,
        before: Cost,
        trained: Cost,
    ) -> None:
        """Saves the model's labels of some examples, made consistent, and what they cost.

        Args:
            name: The file's name.
            examples: A fold.
            model: What predicts its labels.
            before: When the fold was begun, with the base model's counts.
            trained: What the model's training read.
        """
        engine = self.engine.with_model(model)
        log_probs: dict[str, Sequence[float]] = {}
        for first in range(0, len(examples), _LABELED_AT_ONCE):
            some = examples[first : first + _LABELED_AT_ONCE]
            log_probs |= zero_shot_log_probs(some, engine)
            self._progress.advance(len(some))
        all_odds = all_log_odds(log_probs, self.method.centered)
        labels = chosen(examples, all_odds, self.task, consistency=True)
        odds = labels_log_odds(self.task, labels, all_odds)
        start = Cost(seconds=before.seconds)  # the engine of this model began to count at zero
        cost = Cost.so_far(engine) - start + trained
        saved = {"labels": labels, "log_odds": odds, "cost": cost.to_json()}
        write_json(self._file(name), saved)

    def _trained(
        self, model: PreTrainedModel, shown: Sequence[Example], labels: Labels, name: str
    ) -> PreTrainedModel:
        texts = [(example.text, self.task.verbalizers[labels[example.id]]) for example in shown]
        seed = f"{self.job.seed} {name}"
        return finetuned(model, self.engine.tokenizer, texts, self.method, seed, self._progress)

    def _next_theta(self, theta: PreTrainedModel, labels: Labels, name: str) -> PreTrainedModel:
        """The model that has learned a round's labels, with which the next round begins."""

        def train() -> PreTrainedModel:
            before = Cost.so_far(self.engine)
            trained = self._trained(theta, self.examples, labels, name)
            cost = self.job.trained(self.examples, self.method.num_train_epochs)
            cost += Cost.so_far(self.engine) - before
            write_json(self._file(name), {"cost": cost.to_json()})
            return trained

        return trained_once(self.work / name, train, theta)

    def _merged(self, number: int) -> tuple[dict[str, Label], dict[str, float]]:
        """A round's labels and their log-odds, once all processes have saved their parts."""
        self.processes.wait_for_everyone()
        names = [_fold_name(number, index) for index in range(self.method.folds)]
        parts = [read_json(self._file(name)) for name in names]
        labels = {id: label for part in parts for id, label in part["labels"].items()}
        odds = {id: value for part in parts for id, value in part["log_odds"].items()}
        return labels, odds

    def _record(
        self, number: int, before: Labels, labels: Labels, odds: Mapping[str, float]
    ) -> dict[str, Any]:
        """One line of the history; ``changes`` are the labels that the round changed."""
        contradictions = len(list(inconsistent_pairs(self._groups, self.task, labels)))
        return {
            "pool": 0,
            "iteration": number,
            "utility": self.method.alpha * mean(odds.values()) - contradictions,
            "mutual_predictability": mean(odds.values()),
            "inconsistencies": contradictions,
            "labeled": len(labels),
            "changes": {id: label for id, label in labels.items() if before.get(id) != label},
        }
