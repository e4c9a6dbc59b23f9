import json

import pytest

from icm_rl.errors import InputError
from icm_rl.rewardbench.benchmark import (
    SECTIONS,
    BenchmarkRow,
    load_benchmark,
    section_scores,
    subset_means,
)


def test_a_section_weights_its_subsets_by_the_official_counts():
    scores = section_scores({"math-prm": 50.0, "hep-python": 100.0, "hep-go": 90.0})
    # only what is there counts: 984, 164 and 164 rows
    expected = (984 * 50 + 164 * 100 + 164 * 90) / (984 + 2 * 164)
    assert scores == {"Reasoning": pytest.approx(expected)}


def test_math_weighs_as_much_as_all_code():
    code = sum(n for name, n in SECTIONS["Reasoning"].items() if name.startswith("hep-"))
    assert SECTIONS["Reasoning"]["math-prm"] == code


def test_subset_means_keep_the_benchmarks_order():
    rows = [
        BenchmarkRow(str(k), s, "", "", "") for k, s in enumerate(["hep-go", "donotanswer"] * 2)
    ]
    means = subset_means(rows, [1.0, 0.0, 0.0, 0.0])
    assert list(means.items()) == [("donotanswer", 0.0), ("hep-go", 0.5)]


def test_a_strange_subset_is_refused(tmp_path):
    row = {"prompt": "p", "chosen": "c", "rejected": "r", "subset": "poetry"}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match="line 1: 'poetry' is none of RewardBench's subsets"):
        load_benchmark(tmp_path / "b.jsonl")


def test_the_miniature_has_every_section_and_asks_nothing_twice(data):
    rows = load_benchmark(data / "benchmark.jsonl")
    sections = {row.section for row in rows}
    assert sections == set(SECTIONS)
    asked = {row.prompt for row in rows}
    trained = {
        json.loads(line)["prompt"]
        for name in ("preferences_train", "prompts")
        for line in (data / f"{name}.jsonl").read_text().splitlines()
    }
    assert not asked & trained
