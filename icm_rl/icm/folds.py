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
from icm_rl.icm.finetune import FinetuneConfig, finetuned, total_steps, trained_once
from icm_rl.icm.objective import Labels, inconsistent_pairs, log_odds
from icm_rl.progress import Progress
from icm_rl.tasks import Example, Label, Task, group_members


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
        self._own = range(rank, config.folds, count)
        fold = total_steps(config.finetune, len(examples) - len(examples) // config.folds)
        whole = total_steps(config.finetune, len(examples))
        self._progress = Progress(
            "ICM",
            config.rounds * len(self._own) * fold + (config.rounds - 1) * whole,
            unit="step",
            shown=self.processes.is_main_process,
        )

    def run(self) -> dict[str, Any]:
        """All rounds; the first labels are the base model's own.

        Returns:
            The last round's ``labels``, their ``log_odds`` by the models that had not seen them,
            ``utility``, ``inconsistencies``, the ``history`` with one record a round, and the
            ``seconds``, those of earlier runs included.
        """
        theta = self.engine.model
        if self.processes.is_main_process and not self._file("round-0").exists():
            self._label("round-0", self.examples, theta, time.monotonic())
        labels, result = self._merged(["round-0"])
        history = [self._record(0, {}, labels, result)]
        for number in range(1, self.config.rounds + 1):
            rng = random.Random(f"folds {self.seed} {number}")
            folds = split_into_folds(self.examples, self.config.folds, rng)
            names = [f"round-{number}-fold-{index}" for index in range(self.config.folds)]
            for index in self._own:
                if not self._file(names[index]).exists():
                    start = time.monotonic()
                    shown = [e for fold in folds[:index] + folds[index + 1 :] for e in fold]
                    predictor = self._trained(theta, shown, labels, names[index])
                    self._label(names[index], folds[index], predictor, start)
            before, (labels, result) = labels, self._merged(names)
            history.append(self._record(number, before, labels, result))
            if number < self.config.rounds:
                start, name = time.monotonic(), f"theta-{number}"

                def train(theta=theta, labels=labels, name=name, start=start) -> PreTrainedModel:
                    trained = self._trained(theta, self.examples, labels, name)
                    write_json(self._file(name), {"seconds": time.monotonic() - start})
                    return trained

                theta = trained_once(self.work / name, train, theta)
        self._progress.close()
        seconds = sum(read_json(file)["seconds"] for file in self.work.glob("*.json"))
        return {"labels": labels, **result, "history": history, "spread": 0.0, "seconds": seconds}

    def _file(self, name: str) -> Path:
        return self.work / f"{name}.json"

    def _label(
        self, name: str, examples: Sequence[Example], model: PreTrainedModel, start: float
    ) -> None:
        """Saves the model's labels of some examples, made consistent, and the seconds they took."""
        log_probs = zero_shot_log_probs(examples, self.engine.with_model(model))
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

    def _merged(self, names: Sequence[str]) -> tuple[dict[str, Label], dict[str, Any]]:
        """A round's labels and what they are worth, once all processes have saved their parts."""
        self.processes.wait_for_everyone()
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
