"""Ways to label, compared: methods, tasks, models and seeds, in one table and on one page.

    python recipes/experiment.py --config recipes/configs/miniature/experiment.yaml

Each method labels the training split; then the model labels the test split, in the context of these
labels and after fine-tuning on them (the paper's Figure 3). Continues where it was stopped.
"""

import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from icm_rl.experiment.config import Cell, ExperimentConfig, cells, short_names
from icm_rl.experiment.measuring import measured, open_cell, quiet_with_threads
from icm_rl.experiment.page import experiment_page
from icm_rl.experiment.summary import better_than_icm, family, summary
from icm_rl.files import read_json, write_parquet, write_text
from icm_rl.icm.config import parse_icm
from icm_rl.icm.methods import Need
from icm_rl.miniature.data import write_data
from icm_rl.progress import Progress
from icm_rl.report.page import Page, html, markdown
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.terminal import say

_ICM = ("search", "folds")


def main() -> None:
    (config,) = parse([ExperimentConfig])
    folder = Path(config.output_dir)
    if config.world_seed is not None:
        write_data(folder / "data", config.world_seed)
    planned = cells(config)
    _measure(planned, config)
    found = [read_json(cell.figures) for cell in planned]
    write_parquet(folder / "results.parquet", [_flat(figures) for figures in found])
    page = _page(config, planned, found)
    write_text(folder / "experiment.md", markdown(page))
    write_text(folder / "experiment.html", html(page))
    say(markdown(page))
    say(f"page: {folder / 'experiment.html'}")


def _measure(planned: list[Cell], config: ExperimentConfig) -> None:
    """Measures the cells that were not measured before; those that wait for others last."""
    done = [cell for cell in planned if cell.figures.exists()]
    for cell in done:
        open_cell(cell, config)
    progress = Progress("experiment", len(planned), len(done), "cell")
    threads = max(1, (os.cpu_count() or 1) // config.processes)
    # a process that was forked could not use a GPU, and one that was not imports all anew
    context = get_context("spawn" if torch.accelerator.is_available() else "fork")
    executor = ProcessPoolExecutor(config.processes, context, quiet_with_threads, (threads,))
    try:
        for waits in (False, True):
            missing = [c for c in planned if bool(c.after) == waits and not c.figures.exists()]
            results = executor.map(measured, missing, [config] * len(missing))
            for cell, figures in zip(missing, results, strict=True):
                right = {f"{cell.task}, {cell.method}: right": figures["label_accuracy"]}
                progress.advance(**right)
    finally:
        executor.shutdown(cancel_futures=True)
    progress.close()


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    """A cell's row of the results: of the test split the share that is right."""
    return {
        name: sum(value.values()) / len(value) if isinstance(value, dict) else value
        for name, value in figures.items()
    }


def _page(config: ExperimentConfig, planned: list[Cell], found: list[dict[str, Any]]) -> Page:
    methods = {cell.method: parse_icm(cell.flags)[1] for cell in planned}
    given = {Need.GOLD, Need.HUMAN}
    golden = next((name for name, method in methods.items() if method.name == "golden"), None)
    icm = [
        name for name, method in methods.items() if method.name in _ICM and not method.needs & given
    ]
    others = [name for name in methods if name not in icm and not methods[name].needs & given]
    lines: dict[str, dict[str, Any]] = defaultdict(dict)
    better: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for model, short in short_names(config.models).items():
        for task, of_task in config.tasks.items():
            own = [f for f in found if (f["model"], f["task"]) == (model, task)]
            icm_config, _ = parse_icm(next(c.flags for c in planned if c.task == task))
            test = icm_config.configured_task.load(of_task["test_data"])
            groups = {example.id: example.group for example in test.examples}
            lines[short][task] = summary(own, groups, config.reference, golden)
            better[short][task] = better_than_icm(lines[short][task], icm, others)
    shown = [*icm, *map(family, icm)]
    return experiment_page(lines, config.reference, config.seeds, shown, better)


if __name__ == "__main__":
    run(main)
