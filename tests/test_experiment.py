"""Ways to label, compared: the arithmetic, the recipe, and what it refuses."""

import json
from math import sqrt

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml

from icm_rl.errors import InputError
from icm_rl.experiment.config import ExperimentConfig, cells, short_names
from icm_rl.experiment.measuring import context
from icm_rl.experiment.summary import better_than_icm, estimate, family, frontier, summary
from icm_rl.files import write_jsonl
from icm_rl.icm.config import parse_icm
from icm_rl.tasks import TASKS
from tests.conftest import rows, run

GROUPS = {"a": "x", "b": "x", "c": "y", "d": "z"}


def cell(method: str, seed: int, right: str, labels: float, tokens: int, zero: str = "1000"):
    """Figures of a cell; ``right`` has a 1 for each example of the test split that is right."""

    def of(digits: str) -> dict[str, bool]:
        return {id: digit == "1" for id, digit in zip(GROUPS, digits, strict=True)}

    return {
        **{"model": "m", "task": "t", "method": method, "seed": seed, "label_accuracy": labels},
        **{"computed_tokens": tokens, "trained_tokens": 0, "seconds": 1.0},
        **{"zero_shot": of(zero), "prompted": of(right)},
    }


FOUND = [
    cell("search", 0, "1110", 0.9, 300),
    cell("search", 1, "1100", 0.7, 100),
    cell("golden", 0, "1111", 1.0, 0),
    cell("golden", 1, "1011", 1.0, 0),
    cell("quick/2", 0, "1111", 0.95, 50),
    cell("quick/2", 1, "1110", 0.85, 150),
    cell("quick/1", 0, "1000", 0.5, 10),
    cell("quick/1", 1, "1000", 0.5, 30),
]


def test_means_differences_and_what_is_recovered():
    lines = {line.method: line for line in summary(FOUND, GROUPS, "search", "golden")}
    search, quick = lines["search"], lines["quick/2"]
    assert search.accuracy["prompted"].mean == pytest.approx(5 / 8)
    assert search.difference["prompted"] is None
    assert quick.difference["prompted"].mean == pytest.approx(7 / 8 - 5 / 8)
    # zero-shot is right on 1 of 4, golden on 7 of 8
    assert search.recovered["prompted"] == pytest.approx((5 / 8 - 1 / 4) / (7 / 8 - 1 / 4))
    assert search.labels == [0.9, 0.7] and search.tokens == 200
    assert list(search.accuracy) == ["prompted"]  # none was fine-tuned
    without = summary(FOUND[:2], GROUPS, "search", None)[0]
    assert without.recovered["prompted"] is None


def test_the_frontier_has_a_line_a_family():
    lines = summary(FOUND, GROUPS, "search", "golden")
    assert family("quick/2") == "quick" and family("search") == "search"
    assert frontier(lines)["quick"] == [(20, 50.0), (100, pytest.approx(90.0))]


def test_what_beats_icm_is_right_more_often_for_no_more_tokens():
    def beaten(labels: float, tokens: int) -> list[str]:
        found = [*FOUND[:2], cell("other", 0, "1111", labels, tokens)]
        return better_than_icm(summary(found, GROUPS, "search", None), ["search"], ["other"])

    # ICM is right on 80 % for 200 tokens
    assert beaten(0.83, 200) == ["other"]
    assert beaten(0.83, 201) == [] and beaten(0.81, 100) == []


def test_intervals_are_those_of_resampled_groups_and_seeds():
    rng = np.random.default_rng(1)
    right = (rng.random((1, 400)) < 0.8).astype(float)
    found = estimate(right, np.ones(400))
    half = 1.96 * sqrt(right.mean() * (1 - right.mean()) / 400)
    assert found.mean == right.mean()
    assert found.interval == pytest.approx((found.mean - half, found.mean + half), abs=0.01)
    # groups whose four examples go together tell a quarter as much
    grouped = estimate(4 * right[:, :100], np.full(100, 4))
    width = grouped.interval[1] - grouped.interval[0]
    assert width == pytest.approx(2 * (found.interval[1] - found.interval[0]), rel=0.2)
    # seeds that differ widen it
    seeds = estimate(np.stack([np.ones(400), np.zeros(400)]), np.ones(400))
    assert seeds.interval == (0, 1)


def test_models_of_one_name_are_told_apart_by_their_folders():
    assert short_names(["org/one", "two"]) == {"org/one": "one", "two": "two"}
    models = ["runs/small/model", "runs/large/model", "other"]
    assert list(short_names(models).values()) == ["small/model", "large/model", "other"]


def test_a_context_is_of_whole_groups_and_the_seeds(preferences, engine):
    task = TASKS["preferences"]
    test = type(preferences)(preferences.examples[:10])
    shots = context(preferences, test, preferences.gold, task, engine, 11, 0)
    ids = [e.id for e, _ in shots]
    assert len(ids) == 10 and len({e.group for e, _ in shots}) == 5
    assert all(preferences.gold[e.id] == label for e, label in shots)
    other = {id: not label for id, label in preferences.gold.items()}
    assert [e.id for e, _ in context(preferences, test, other, task, engine, 11, 0)] == ids
    assert [e.id for e, _ in context(preferences, test, other, task, engine, 11, 1)] != ids
    longest = max(engine.count_tokens(e.text) for e in test.examples)
    whole = context(preferences, test, preferences.gold, task, engine, 10_000, 0)
    shown = sum(engine.count_tokens(piece) for shot in whole for piece in task.demonstration(*shot))
    assert 0.9 * engine.context_length < shown + longest < engine.context_length


def settings(folder, data) -> dict:
    for split in ("train", "test"):
        of_split = rows(data / f"facts_{split}.jsonl")[:32]
        known = [
            {"text": f"{row['question']} {row['choice']}", "about": row["consistency_id"]}
            | {"label": row["label"]}
            for row in of_split
        ]
        write_jsonl(folder / f"{split}.jsonl", known)
    return {
        "tasks": {
            "facts": {
                "task": "claims",
                "template": "{text}\nI think this is",
                "group_column": "about",
                "data": str(folder / "train.jsonl"),
                "test_data": str(folder / "test.jsonl"),
                "pool_size": 16,
            }
        },
        "methods": {
            "search": {"method": "search", "sweeps": 1, "iterations_per_example": 0.1},
            "zero_shot": {"method": "zero_shot"},
            "pca": {"method": "pca", "consistency": False},
            "golden": {"method": "golden"},
            "perturbed": {"method": "perturbed", "as_right_as": "search"},
            "ensemble": {"method": "ensemble", "of": ["zero_shot", "pca"]},
        },
        "seeds": 2,
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "dtype": "float32",
        "processes": 2,
        "output_dir": str(folder / "out"),
    }


@pytest.mark.process
def test_an_experiment_is_a_table_a_page_and_results(data, tmp_path):
    config = settings(tmp_path, data)
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(config))
    done = run("recipes/experiment.py", "--config", file)
    found = parquet.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert len(found) == 6 * 2
    by_cell = {(row["method"], row["seed"]): row for row in found}
    for seed in (0, 1):
        assert by_cell["golden", seed]["label_accuracy"] == 1
        near = by_cell["search", seed]["label_accuracy"]
        assert by_cell["perturbed", seed]["label_accuracy"] == pytest.approx(near, abs=0.5 / 32)
        assert by_cell["search", seed]["zero_shot"] == by_cell["golden", seed]["zero_shot"]
        members = [by_cell[name, seed]["computed_tokens"] for name in ("zero_shot", "pca")]
        assert by_cell["ensemble", seed]["computed_tokens"] == sum(members) > 0
    page = (tmp_path / "out" / "experiment.html").read_text()
    assert "ICM&#39;s best setting" in page and page.count("data-chart=") == 3
    assert (tmp_path / "out" / "experiment.md").read_text() in done.stdout

    cells_of = tmp_path / "out" / "cells" / "miniature" / "facts"
    figures = {path: path.stat().st_mtime_ns for path in cells_of.glob("*/*/figures.json")}
    lost = cells_of / "pca" / "1" / "figures.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    run("recipes/experiment.py", "--config", file)
    assert json.loads(lost.read_text()) == before
    again = {path: path.stat().st_mtime_ns for path in cells_of.glob("*/*/figures.json")}
    assert [path for path in figures if again[path] != figures[path]] == [lost]

    for setting, what in (("learning_rate", "test learning_rate"), ("shots", "test shots")):
        file.write_text(yaml.safe_dump(config | {setting: 2}))
        said = run("recipes/experiment.py", "--config", file, check=False).stderr
        assert f": holds the results of a run with {what} = " in said
    config["methods"]["search"]["alpha"] = 20
    file.write_text(yaml.safe_dump(config))
    said = run("recipes/experiment.py", "--config", file, check=False).stderr
    assert "facts/search/0: holds the results of a run with alpha = 50.0 (now 20.0)" in said


def test_signals_are_asked_for_where_a_task_says_so(data, tmp_path):
    config = settings(tmp_path, data)
    first = cells(ExperimentConfig(**config))[0]
    assert not parse_icm(first.flags)[0].signals
    config["tasks"]["facts"]["signals"] = True
    assert parse_icm(cells(ExperimentConfig(**config))[0].flags)[0].signals


def refused(config: dict, **changes) -> str:
    with pytest.raises(InputError) as error:
        cells(ExperimentConfig(**{**config, **changes}))
    return str(error.value)


def test_what_does_not_fit_is_said_before_anything_runs(data, tmp_path):
    config = settings(tmp_path, data)
    assert len(cells(ExperimentConfig(**config))) == 12
    methods, facts = config["methods"], config["tasks"]["facts"]
    assert refused(config, methods={}) == "methods are missing: name them in the --config"
    said = refused(config, reference="folds")
    assert said.startswith("--reference 'folds' is not one of the methods: search, zero_shot")
    said = refused(config, methods=methods | {"x": {"method": "serach"}})
    assert said.startswith("facts, x: --method 'serach' is not known")
    said = refused(config, methods=methods | {"x": {"method": "pca", "rounds": 2}})
    assert said.startswith("facts, x: --rounds is a setting of --method")
    said = refused(config, methods=methods | {"x": {"method": "ensemble", "of": ["y", "pca"]}})
    assert said == "methods: x: 'y' is no method that can be labeled by before it"
    untested = {name: value for name, value in facts.items() if name != "test_data"}
    said = refused(config, tasks={"facts": untested})
    assert said == "tasks: facts: 'test_data' is missing; name the test split's rows"
    said = refused(config, tasks={"facts": facts | {"data": "none.jsonl"}})
    assert "facts, search: none.jsonl" in said
    unlabeled = [
        {k: v for k, v in row.items() if k != "label"} for row in rows(tmp_path / "test.jsonl")
    ]
    write_jsonl(tmp_path / "unlabeled.jsonl", unlabeled)
    said = refused(
        config, tasks={"facts": facts | {"test_data": str(tmp_path / "unlabeled.jsonl")}}
    )
    assert said.startswith("tasks: facts: 32 examples of the test split have no gold label")
