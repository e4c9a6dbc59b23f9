"""Scalable ICM (Algorithms 3 and 4, Appendix G): fine-tuning in the place of contexts.

Mutual predictability is measured fold by fold: a model that learned the labels of all other folds
predicts those of one. So a data set may be larger than any context.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel

from icm_rl.engines import LocalEngine
from icm_rl.files import read_json, write_json
from icm_rl.icm.baselines import zero_shot_log_probs
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.finetune import FinetuneConfig, finetuned, trained_once
from icm_rl.icm.objective import Labels, inconsistent_pairs, log_odds
from icm_rl.progress import Progress
from icm_rl.tasks import Example, Label, Task, group_members

_LABELED_AT_ONCE = 512
"""Examples between two steps of the progress bar."""


@dataclass(frozen=True)
class FoldsConfig:
    """Algorithm 3's hyperparameters.

    Attributes:
        folds: F, the parts of the data set.
        rounds: G, how often all of it is labeled again.
        finetune: How a model learns the labels.
    """

    folds: int = 4
    rounds: int = 2
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)


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


class FoldsSearch:
    """Algorithm 3 on a data set, continued where an earlier run was stopped.

    Several processes share out the folds of a round.

    Args:
        examples: The data set.
        task: Gives the labels and the relation.
        engine: Holds the base model.
        alpha: The weight of mutual predictability in U.
        config: Hyperparameters.
        seed: Decides folds, batches and adapters.
        work: The folder of what is saved.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        task: Task,
        engine: LocalEngine,
        alpha: float,
        config: FoldsConfig,
        seed: int,
        work: Path,
    ):
        self.examples, self.task, self.engine, self.alpha = examples, task, engine, alpha
        self.config, self.seed, self.work = config, seed, work
        self.processes, self._groups = PartialState(), group_members(examples)
        rank, count = self.processes.process_index, self.processes.num_processes
        self._folds = [
            split_into_folds(examples, config.folds, random.Random(f"folds {seed} {number}"))
            for number in range(config.rounds + 1)
        ]
        self._own = range(rank, config.folds, count)
        self._progress = self._started_progress()

    def run(self) -> dict[str, Any]:
        """All rounds; the first labels are the base model's own.

        Returns:
            The last round's ``labels``, their ``log_odds`` by the models that had not seen them,
            ``utility``, ``inconsistencies``, the ``history`` with one record a round, and the
            ``seconds``, those of earlier runs included.
        """
        theta, labels, history = self.engine.model, {}, []
        for number, folds in enumerate(self._folds):
            for index in self._own:
                name = _fold_name(number, index)
                if not self._file(name).exists():
                    start, predictor = time.monotonic(), theta
                    if number:
                        shown = [e for fold in folds[:index] + folds[index + 1 :] for e in fold]
                        predictor = self._trained(theta, shown, labels, name)
                    self._label(name, folds[index], predictor, start)
            before, (labels, result) = labels, self._merged(number)
            history.append(self._record(number, before, labels, result))
            if 0 < number < self.config.rounds:
                theta = self._next_theta(theta, labels, f"theta-{number}")
        self._progress.close()
        seconds = sum(read_json(file)["seconds"] for file in self.work.glob("*.json"))
        return {"labels": labels, **result, "history": history, "spread": 0.0, "seconds": seconds}

    def _started_progress(self) -> Progress:
        """Counts the examples that this process learns and labels, those of earlier runs too."""
        count, epochs = len(self.examples), self.config.finetune.num_train_epochs
        work = {}
        for number, folds in enumerate(self._folds):
            for index in self._own:
                learned = epochs * (count - len(folds[index])) if number else 0
                work[_fold_name(number, index)] = learned + len(folds[index])
        if self.processes.is_main_process:
            thetas = range(1, self.config.rounds)
            work |= {f"theta-{number}": epochs * count for number in thetas}
        done = sum(examples for name, examples in work.items() if self._file(name).exists())
        shown = self.processes.is_main_process
        return Progress("ICM", sum(work.values()), done, "example", shown)

    def _file(self, name: str) -> Path:
        return self.work / f"{name}.json"

    def _label(
        self, name: str, examples: Sequence[Example], model: PreTrainedModel, start: float
    ) -> None:
        """Saves the model's labels of some examples, made consistent, and the seconds they took."""
        engine, log_probs = self.engine.with_model(model), {}
        for first in range(0, len(examples), _LABELED_AT_ONCE):
            some = examples[first : first + _LABELED_AT_ONCE]
            log_probs |= zero_shot_log_probs(some, engine)
            self._progress.advance(len(some))
        labels = consistency_fix_maxprob(examples, self.task, log_probs)
        index = {label: index for index, label in enumerate(self.task.labels)}
        odds = {id: log_odds(log_probs[id], index[label]) for id, label in labels.items()}
        seconds = time.monotonic() - start
        write_json(self._file(name), {"labels": labels, "log_odds": odds, "seconds": seconds})

    def _trained(
        self, model: PreTrainedModel, shown: Sequence[Example], labels: Labels, name: str
    ) -> PreTrainedModel:
        texts = [(example.text, self.task.labels[labels[example.id]]) for example in shown]
        seed = f"{self.seed} {name}"
        return finetuned(
            model, self.engine.tokenizer, texts, self.config.finetune, seed, self._progress
        )

    def _next_theta(self, theta: PreTrainedModel, labels: Labels, name: str) -> PreTrainedModel:
        """The model that has learned a round's labels, with which the next round begins."""

        def train() -> PreTrainedModel:
            start = time.monotonic()
            trained = self._trained(theta, self.examples, labels, name)
            write_json(self._file(name), {"seconds": time.monotonic() - start})
            return trained

        return trained_once(self.work / name, train, theta)

    def _merged(self, number: int) -> tuple[dict[str, Label], dict[str, Any]]:
        """A round's labels and what they are worth, once all processes have saved their parts."""
        self.processes.wait_for_everyone()
        names = [_fold_name(number, index) for index in range(self.config.folds)]
        parts = [read_json(self._file(name)) for name in names]
        labels = {id: label for part in parts for id, label in part["labels"].items()}
        odds = {id: value for part in parts for id, value in part["log_odds"].items()}
        contradictions = len(list(inconsistent_pairs(self._groups, self.task, labels)))
        return labels, {
            "log_odds": odds,
            "utility": self.alpha * mean(odds.values()) - contradictions,
            "inconsistencies": contradictions,
        }

    @staticmethod
    def _record(
        number: int, before: Labels, labels: Labels, result: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One line of the history; ``changes`` are the labels that the round changed."""
        return {
            "iteration": number,
            "utility": result["utility"],
            "mutual_predictability": mean(result["log_odds"].values()),
            "inconsistencies": result["inconsistencies"],
            "labeled": len(labels),
            "changes": {id: label for id, label in labels.items() if before.get(id) != label},
        }
