import json

import pytest

from icm_rl.errors import InputError
from icm_rl.rewardbench.benchmark import SECTIONS, SECTIONS_2, Benchmark, load_benchmark


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(subset, **values):
    return {"prompt": "p", "chosen": "c", "rejected": "r", "subset": subset, **values}


def best_of(subset, id="0", chosen=("c",), rejected=("r", "s", "t")):
    answers = {"chosen": list(chosen), "rejected": list(rejected)}
    return {"prompt": "p", **answers, "subset": subset, "id": id}


def test_a_section_weights_its_subsets_by_the_official_counts():
    scores = Benchmark([], SECTIONS).section_scores(
        {"math-prm": 50.0, "hep-python": 100.0, "hep-go": 90.0}
    )
    # only what is there counts: 984, 164 and 164 rows
    expected = (984 * 50 + 164 * 100 + 164 * 90) / (984 + 2 * 164)
    assert scores == {"Reasoning": pytest.approx(expected)}


def test_math_weighs_as_much_as_all_code():
    code = sum(n for name, n in SECTIONS["Reasoning"].items() if name.startswith("hep-"))
    assert SECTIONS["Reasoning"]["math-prm"] == code


def test_subsets_keep_the_benchmarks_order(tmp_path):
    rows = [pair(subset) for subset in ("hep-go", "donotanswer") * 2]
    benchmark = load_benchmark(written(tmp_path / "b.jsonl", *rows))
    means = benchmark.subset_means([1.0, 0.0, 0.0, 0.0])
    assert list(means.items()) == [("donotanswer", 0.0), ("hep-go", 0.5)]
    assert benchmark.empty_sections == ["Chat", "Chat Hard"]


def test_an_unknown_subset_is_counted_apart(tmp_path):
    rows = [pair("poetry"), pair("hep-go"), pair("poetry")]
    benchmark = load_benchmark(written(tmp_path / "b.jsonl", *rows))
    assert benchmark.unknown_subsets == ["poetry"]
    means = benchmark.subset_means([1.0, 0.0, 0.0])
    assert means == {"hep-go": 0.0, "poetry": 0.5}
    assert benchmark.section_scores(means) == {"Reasoning": 0.0}


def test_a_file_of_another_benchmark_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no row's subset is one of RewardBench's \(poetry\)"):
        load_benchmark(written(tmp_path / "b.jsonl", pair("poetry")))


def test_a_row_without_a_column_is_named(tmp_path):
    row = pair("hep-go")
    del row["rejected"]
    with pytest.raises(InputError, match="line 2: the field 'rejected' is missing"):
        load_benchmark(written(tmp_path / "b.jsonl", pair("hep-go"), row))


def test_the_prior_sets_are_a_fifth_section_of_half_the_weight(tmp_path):
    dialogue = [{"role": "user", "content": "p"}]
    prior = [pair(s, prompt=dialogue) for s in ("shp", "summarize", "mtbench_human")]
    benchmark = load_benchmark(
        written(tmp_path / "b.jsonl", pair("hep-go")), written(tmp_path / "p.jsonl", *prior)
    )
    sections = benchmark.section_scores(benchmark.subset_means([0.9, 0.2, 0.4, 1.0]))
    assert sections == pytest.approx({"Reasoning": 0.9, "Prior Sets": 0.3})
    assert benchmark.score(sections) == pytest.approx((0.9 + 0.5 * 0.3) / 1.5)
    assert benchmark.unknown_subsets == ["mtbench_human"]
    assert benchmark.rows[1].prompt == dialogue


def test_rewardbench_2_has_a_section_a_subset(tmp_path):
    rows = [best_of("Math"), best_of("Ties", "tied:1", ("c", "d"))]
    benchmark = load_benchmark(written(tmp_path / "b.jsonl", *rows))
    assert benchmark.best_of and set(benchmark.sections) == set(SECTIONS_2)
    assert benchmark.rows[1].chosen == ("c", "d")
    assert benchmark.empty_sections == ["Factuality", "Precise IF", "Safety", "Focus"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (best_of("Math") | {"rejected": "r"}, "'rejected' must be a list of texts, not 'r'"),
        (best_of("Math", rejected=()), r"'rejected' must be a list of texts, not \[\]"),
        (best_of("Ties", "7"), "a row of Ties has an id 'ref:N' or 'tied:N', not '7'"),
    ],
)
def test_a_bad_row_of_rewardbench_2_is_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        load_benchmark(written(tmp_path / "b.jsonl", best_of("Math"), row))


def test_the_miniature_has_every_section_and_asks_nothing_twice(data):
    benchmark = load_benchmark(data / "benchmark.jsonl")
    assert not benchmark.empty_sections and not benchmark.unknown_subsets
    asked = {row.prompt for row in benchmark.rows}
    trained = {
        json.loads(line)["prompt"]
        for name in ("preferences_train", "prompts")
        for line in (data / f"{name}.jsonl").read_text().splitlines()
    }
    assert not asked & trained
