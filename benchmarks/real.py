r"""Labels by each way and objective, on real text by SmolLM2, as a table.

    python benchmarks/real.py --data ../shared/data --seeds 5 --tasks reviews reviews_pairs
    python benchmarks/real.py --data ../shared/data --seeds 3 \
        --ways zero_shot random_few_shot centered mean_log_odds \
        --tasks reviews_pairs rt_polarity_pairs truthfulqa alpaca gsm8k

``--data`` is a folder with sentences and their sentiment (``reviews.jsonl``, ``rt_polarity.jsonl``)
and with files of the paper's own (``icm_truthfulqa_test.json``, ``icm_gsm8k_test.json``,
``icm_alpaca_test.json``). Gold labels only measure. Continues where it was stopped; a task whose
file is not there is left out, which is said.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import yaml
from annotated_types import Ge
from stages import run_recipe

from icm_rl.errors import InputError
from icm_rl.files import read_json, write_text
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.methods import METHODS, settings_of
from icm_rl.report.table import mean_and_deviation
from icm_rl.runner import run
from icm_rl.settings import parse, require_given
from icm_rl.shipped import shipped


@dataclass(frozen=True)
class TaskRun:
    """A task's file, its own flags, and the settings that differ from the reviews'."""

    file: str
    flags: tuple[str, ...] = ()
    changed: Mapping[str, Any] = field(default_factory=dict)


_PAIRED = ("--relation", "asymmetric", "--group_column", "group")


def _long(size: int, iterations: float) -> dict[str, float]:
    """Pools of that size, searched once and but little after the sweeps: all else takes hours."""
    return {"pool_size": size, "restarts": 1, "iterations_per_example": iterations}


TASKS = {
    "reviews": TaskRun("reviews.jsonl"),
    "reviews_pairs": TaskRun("reviews.jsonl", _PAIRED),
    "rt_polarity_pairs": TaskRun(
        "rt_polarity.jsonl", (*_PAIRED, "--limit", "96"), changed={"pool_size": 48, "restarts": 1}
    ),
    "truthfulqa": TaskRun(
        "icm_truthfulqa_test.json",
        ("--task", "truthfulqa", "--limit", "9"),
        changed=_long(32, 1 / 4),
    ),
    "alpaca": TaskRun(
        "icm_alpaca_test.json",
        ("--task", "alpaca", "--limit", "16"),
        changed=_long(16, 1 / 16) | {"shots": 8},
    ),
    "gsm8k": TaskRun(
        "icm_gsm8k_test.json",
        ("--task", "gsm8k", "--limit", "16"),
        changed=_long(16, 1 / 16) | {"sweeps": 2, "shots": 8},
    ),
}

_ALONE = {"baselines": False}
_ONCE = {"sweeps": 0, "iterations_per_example": 3, "restarts": 1}
WAYS: dict[str, dict[str, Any]] = {
    "zero_shot": {
        **{"method": "zero_shot", "objective": "mean_log_odds", "consistency": False},
        **_ALONE,
    },
    "random_few_shot": {"method": "random_few_shot", "objective": "centered", **_ALONE},
    "centered": {"objective": "centered"},
    "mean_log_odds": {"objective": "mean_log_odds", **_ALONE},
    "paper": {"objective": "mean_log_odds", **_ONCE, **_ALONE},
    "paper_centered": {"objective": "centered", **_ONCE, **_ALONE},
}
"""The ways to label and their settings; the paper's begin with K examples. The baselines are the
same whatever the way, and measured beside one."""

COLUMNS: dict[str, tuple[str, str]] = {
    "zero-shot": ("zero_shot", "label_accuracy"),
    "zero-shot, centered": ("centered", "zero_shot_accuracy"),
    "the same, consistent": ("centered", "consistent_zero_shot_accuracy"),
    "random few-shot": ("random_few_shot", "label_accuracy"),
    "ICM as in the paper": ("paper", "label_accuracy"),
    "the same, centered": ("paper_centered", "label_accuracy"),
    "sweeps, mean log-odds": ("mean_log_odds", "label_accuracy"),
    "sweeps, centered": ("centered", "label_accuracy"),
    "golden many-shot": ("centered", "golden_many_shot_accuracy"),
}


@dataclass
class RealConfig:
    """Ways to label, compared."""

    data: str = field(default="", metadata={"help": "Folder of the files of real text."})
    tasks: list[str] = field(
        default_factory=lambda: list(TASKS), metadata={"help": f"Of {', '.join(TASKS)}."}
    )
    ways: list[str] = field(
        default_factory=lambda: list(WAYS), metadata={"help": f"Of {', '.join(WAYS)}."}
    )
    seeds: Annotated[int, Ge(1)] = field(default=3, metadata={"help": "Seeds, counted from 0."})
    output_dir: str = field(default="runs/ways", metadata={"help": "Folder of runs and table."})

    def __post_init__(self) -> None:
        require_given(self, "data")
        for flag, given, known in (("tasks", self.tasks, TASKS), ("ways", self.ways, WAYS)):
            for name in given:
                if name not in known:
                    raise InputError(f"--{flag} '{name}' is not one of {', '.join(known)}")


Found = Mapping[str, Sequence[Mapping[str, Any]]]
"""For each way, the metrics of its seeds."""


def main() -> None:
    (config,) = parse([RealConfig])
    found: dict[str, Found] = {}
    for task in config.tasks:
        file = Path(config.data) / TASKS[task].file
        if not file.is_file():
            print(f"{file}: no such file; {task} is left out", file=sys.stderr)
            continue
        found[task] = {
            way: [_metrics(config, task, way, seed) for seed in range(config.seeds)]
            for way in config.ways
        }
        table = _table(found)
        write_text(Path(config.output_dir) / "table.md", table + "\n")
        print(table, flush=True)


def _metrics(config: RealConfig, task: str, way: str, seed: int) -> dict[str, Any]:
    """One labeling, unless it is complete."""
    folder = Path(config.output_dir) / task / f"{way}-{seed}"
    if not (folder / "metrics.json").exists():
        words = [*_settings(task, way), *TASKS[task].flags, "--seed", str(seed)]
        words += ["--data", str(Path(config.data) / TASKS[task].file)]
        words += ["--output_dir", str(folder)]
        run_recipe("recipes/icm.py", *words)
    return read_json(folder / "metrics.json")


def _settings(task: str, way: str) -> list[str]:
    """The config's settings, without those that are not of the task or of the way to label."""
    path = shipped("recipes/configs/smollm2/reviews.yaml")
    settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    settings |= {**TASKS[task].changed, **WAYS[way]}
    known = [field.name for field in fields(IcmConfig)]
    known += settings_of(METHODS[settings.get("method", "search")])
    own = {"task", "template", "verbalizers", "relation"}
    unwanted = own if "--task" in TASKS[task].flags else set()
    return [
        word
        for name, value in settings.items()
        if name in known and name not in unwanted
        for word in (f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value))
    ]


def _table(found: Mapping[str, Found]) -> str:
    """Percent right, with the deviation over seeds; of a search U and its processes' seconds."""
    head = [
        "task",
        *COLUMNS,
        "U, centered",
        "U of gold",
        "seconds",
        "is there something to elicit?",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for task, ways in found.items():
        cells = [task]
        for way, figure in COLUMNS.values():
            values = [100 * metrics[figure] for metrics in ways.get(way, ())]
            cells.append(_cell(values))
        for figure in ("utility", "gold_utility", "labeling_seconds"):
            of_way = ways.get("centered", ())
            cells.append(_cell([metrics[figure] for metrics in of_way if figure in metrics]))
        lines.append(f"| {' | '.join([*cells, _to_elicit(ways.get('centered', ()))])} |")
    return "\n".join(lines)


def _to_elicit(seeds: Sequence[Mapping[str, Any]]) -> str:
    """Whether golden many-shot is above what always saying the more frequent label would be right.

    By more than two standard errors of a share of that many examples.
    """
    if not seeds:
        return ""
    counts = seeds[0]["gold_labels"].values()
    frequent = max(counts) / sum(counts)
    found = fmean(metrics["golden_many_shot_accuracy"] for metrics in seeds)
    above = found > frequent + 2 * sqrt(frequent * (1 - frequent) / sum(counts))
    return "yes" if above else f"no: chance is {100 * frequent:.1f}"


def _cell(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else ""
    return mean_and_deviation(values, 1)


if __name__ == "__main__":
    run(main)
