"""An experiment of the shipped configs, run, and the figures of its cells."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from stages import configured, run_recipe

from icm_rl.data import read_rows
from icm_rl.experiment.config import ExperimentConfig, cells
from icm_rl.files import read_json
from icm_rl.settings import parse

SALIENT = ("facts", "solutions", "preferences")
"""The tasks that the base model understands."""

_COLLAPSED = 0.95


@dataclass(frozen=True)
class Cells:
    """The cells of one model.

    Attributes:
        config: The experiment's settings.
        folders: By task and method the cells' folders, a seed each.
    """

    config: ExperimentConfig
    folders: Mapping[tuple[str, str], Sequence[Path]]

    def labels(self, task: str, method: str) -> list[float]:
        """The percent of the labels found that are right, a seed each."""
        return [
            100 * read_json(folder / "figures.json")["label_accuracy"]
            for folder in self.folders[task, method]
        ]

    def tested(self, tasks: Sequence[str], method: str, way: str) -> list[float]:
        """The percent of the test split that is right, the mean over tasks, a seed each."""
        of_tasks = [
            [
                100 * fmean(read_json(folder / "figures.json")[way].values())
                for folder in self.folders[task, method]
            ]
            for task in tasks
        ]
        return [fmean(of_seed) for of_seed in zip(*of_tasks, strict=True)]

    def metrics(self, task: str, method: str, name: str) -> list[Any]:
        """A metric of the labelings, a seed each."""
        return [
            read_json(folder / "labels" / "metrics.json")[name]
            for folder in self.folders[task, method]
        ]

    def collapsed(self, task: str, method: str) -> int:
        """How many seeds' labels are nearly all the same."""
        shares = self.metrics(task, method, "label_shares")
        return sum(max(of_seed.values()) >= _COLLAPSED for of_seed in shares)

    def history(self, task: str, method: str) -> list[list[dict[str, Any]]]:
        """The searches' records, an iteration each, a seed each."""
        return [
            [dict(row.values) for row in read_rows(folder / "labels" / "history.jsonl")]
            for folder in self.folders[task, method]
        ]


def experiment(name: str) -> dict[str, Cells]:
    """Runs the experiment of a shipped config, or goes on with it; its cells by model."""
    flags = configured(name)
    run_recipe("recipes/experiment.py", *flags)
    (config,) = parse([ExperimentConfig], flags)
    folders: dict[str, dict[tuple[str, str], dict[int, Path]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for cell in cells(config):
        folders[cell.model][cell.task, cell.method][cell.seed] = cell.folder
    return {
        model: Cells(
            config,
            {key: [by_seed[k] for k in sorted(by_seed)] for key, by_seed in of_model.items()},
        )
        for model, of_model in folders.items()
    }
