"""Measures one cell: its labels, and what a model makes of a test split by them."""

import os
import random
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from icm_rl.data import read_rows
from icm_rl.engines import LocalEngine
from icm_rl.engines.loading import EngineConfig, load_engine
from icm_rl.experiment.config import Cell, ExperimentConfig
from icm_rl.files import open_stage, read_json, write_json
from icm_rl.icm.config import parse_icm
from icm_rl.icm.finetune import BaseModel, fine_tune
from icm_rl.icm.labeling import label_dataset, prepared
from icm_rl.icm.objective import Labels, LogProbs, all_log_odds
from icm_rl.icm.pools import check_fit, drawn_groups, example_tokens
from icm_rl.icm.prompting import Shots, few_shot_log_probs, most_likely, zero_shot_log_probs
from icm_rl.runner import quiet_libraries
from icm_rl.settings import identity, inputs
from icm_rl.tasks import Dataset, Label, Task

_COSTS = {
    "computed_tokens": "computed_tokens",
    "trained_tokens": "trained_tokens",
    "seconds": "labeling_seconds",
}
"""A cell's costs, and how a labeling's metrics call them."""


def quiet_with_threads(threads: int) -> None:
    """Prepares a worker: its cores, and no bars of its own, which would run into the one of all."""
    torch.set_num_threads(threads)
    quiet_libraries()
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process lives)


_PLAN = ("models", "tasks", "methods", "reference", "seeds", "world_seed")
"""Settings that say which cells there are; what is in one, the others and its own say."""


def open_cell(cell: Cell, config: ExperimentConfig) -> None:
    """Binds a cell's folder to all that decides what it finds.

    Raises:
        InputError: The folder holds what was found by other settings or of other files.
    """
    icm, method = parse_icm(cell.flags)
    tested = {f"test {k}": v for k, v in identity(config).items() if k not in _PLAN}
    read = {"data": str(icm.source), "test_data": cell.test_data}
    open_stage(cell.folder, identity(icm, method) | tested, inputs(icm, method) | read)


def measured(cell: Cell, config: ExperimentConfig) -> dict[str, Any]:
    """Labels the training split, measures, and writes the cell's figures.

    Returns:
        The figures: the names of the cell; of the labels ``label_accuracy``, ``computed_tokens``,
        ``trained_tokens`` and ``seconds``; and under ``zero_shot``, ``prompted`` and, where asked
        for, ``fine_tuned`` whether each example of the test split is labeled right.
    """
    open_cell(cell, config)
    icm, method = parse_icm([*cell.flags, *_from_others(cell)])
    task = icm.configured_task
    words = tuple(task.verbalizers.values())
    engine = _engine(cell.model, words, config.dtype, config.device_map, config.cache_tokens)
    engine.forget()
    train, test = task.load(icm.source, icm.limit), task.load(cell.test_data)
    job = prepared(train, engine, icm, method)
    read = inputs(icm, method) | {"data": str(icm.source)}
    stage = open_stage(icm.output_dir, identity(icm, method), read)
    if not stage.complete:
        label_dataset(train, job, icm, method)
    rows = read_rows(Path(icm.output_dir) / "labels.jsonl")
    labels: dict[str, Label] = {row.text("id"): row["label"] for row in rows}
    metrics = read_json(stage.metrics)
    engine.forget()
    figures = {
        "model": cell.model,
        "task": cell.task,
        "method": cell.method,
        "seed": cell.seed,
        "label_accuracy": metrics["label_accuracy"],
        **{name: metrics[of] + _of_members(cell, name) for name, of in _COSTS.items()},
        **_tested(cell, config, train, test, labels, task, engine),
    }
    write_json(cell.figures, figures)
    return figures


def _of_members(cell: Cell, cost: str) -> float:
    """What the labelings of an ensemble cost, which is a part of its own cost."""
    members = cell.after if "ensemble" in cell.flags else ()
    return sum(read_json(cell.sibling(name) / "figures.json")[cost] for name in members)


def _from_others(cell: Cell) -> list[str]:
    """What the cells that were done before decide of this one's settings."""
    if not cell.after:
        return []
    if "ensemble" in cell.flags:
        files = (str(cell.sibling(name) / "labels" / "labels.jsonl") for name in cell.after)
        return ["--labelings", *files]
    accuracy = read_json(cell.sibling(cell.after[0]) / "figures.json")["label_accuracy"]
    return ["--right_share", str(accuracy)]


@cache
def _engine(
    model: str, words: tuple[str, ...], dtype: str, device_map: str | None, cache_tokens: int
) -> LocalEngine:
    """Loaded once in a process."""
    where = EngineConfig(dtype=dtype, device_map=device_map, cache_tokens=cache_tokens)
    engine = load_engine(model, words, where)
    assert isinstance(engine, LocalEngine)  # there is no server
    return engine


def _tested(
    cell: Cell,
    config: ExperimentConfig,
    train: Dataset,
    test: Dataset,
    labels: Labels,
    task: Task,
    engine: LocalEngine,
) -> dict[str, dict[str, bool]]:
    """Which examples of the test split each way gets right."""

    def right(log_probs: LogProbs) -> dict[str, bool]:
        odds = all_log_odds(log_probs, config.objective == "centered")
        return {id: label == test.gold[id] for id, label in most_likely(odds, task).items()}

    shots = context(train, test, labels, task, engine, config.shots, cell.seed)
    shown = few_shot_log_probs(test.examples, [shots] * len(test.examples), task, engine)
    found = {
        "zero_shot": right(zero_shot_log_probs(test.examples, engine)),
        "prompted": right(shown),
    }
    if config.fine_tune:
        texts = [(e.text, task.verbalizers[labels[e.id]]) for e in train.examples]
        model, seed = cell.folder / "fine_tuned", f"experiment {cell.seed}"
        fine_tune(BaseModel(cell.model, config.dtype), texts, config, seed, model)
        tuned = engine.with_weights(model)
        found["fine_tuned"] = right(zero_shot_log_probs(test.examples, tuned))
        shutil.rmtree(model)
    return found


def context(
    train: Dataset,
    test: Dataset,
    labels: Mapping[str, Any],
    task: Task,
    engine: LocalEngine,
    most: int,
    seed: int,
) -> Shots:
    """Labeled examples, the context of all test examples: whole groups in random order, that fit.

    They depend on the seed alone, so that methods differ in the labels and in nothing else.

    Args:
        train: The training split.
        test: The test split, whose longest example must fit too.
        labels: The labels that are shown.
        task: Gives the labels' words.
        engine: Counts tokens and knows the context's length.
        most: How many examples at most.
        seed: Draws the order.
    """
    tokens = {e.id: example_tokens(e, task, engine) for e in test.examples}
    room = check_fit(test.examples, tokens, engine) - max(tokens.values())
    rng = random.Random(f"context {seed}")
    shown = drawn_groups(train.examples, task, engine, most, room, rng)
    return [(example, labels[example.id]) for example in shown]
