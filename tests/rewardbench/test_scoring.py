"""The arithmetic of the scores, by hand-worked rows and against scipy's distributions."""

from math import tanh

import numpy as np
import pytest
from scipy.stats import binom

from icm_rl.rewardbench.benchmark import SECTIONS, SECTIONS_2, Benchmark, BenchmarkRow
from icm_rl.rewardbench.scoring import (
    RowScore,
    accuracies,
    by_length,
    compared,
    credit,
    score_parts,
)


def benchmark_of(subsets, sections=SECTIONS, best_of=False):
    rows = [BenchmarkRow(str(k), s, "p", ("c",), ("r",)) for k, s in enumerate(subsets)]
    return Benchmark(rows, sections, best_of)


def credited(*credits):
    return [RowScore([], [], float(value)) for value in credits]


def test_a_pair_is_right_where_the_chosen_answer_scores_higher():
    assert [credit([a], [b], False) for a, b in ((2, 1), (1, 2), (1, 1))] == [1, 0, 0]


def test_of_four_answers_equal_bests_share_the_credit():
    assert credit([3], [1, 2, 0], True) == 1
    assert credit([3], [3, 2, 0], True) == 0.5
    assert credit([3], [3, 3, 3], True) == 0.25
    assert credit([3], [4, 2, 0], True) == 0


def ties(*rows):
    """A benchmark of RewardBench 2's Ties, and the scores of its rows: (id, chosen, rejected)."""
    benchmark = Benchmark(
        [BenchmarkRow(id, "Ties", "p", ("c",) * len(c), ("r",) * len(r)) for id, c, r in rows],
        SECTIONS_2,
        True,
    )
    return benchmark, [RowScore(list(c), list(r), 0.0) for _, c, r in rows]


def ties_score(*rows):
    benchmark, scores = ties(*rows)
    return accuracies(benchmark, score_parts(benchmark, scores))["score"] / 100


def test_the_ties_score_by_hand():
    # tied: right answers 5 and 4 (spread 1), wrong 1: margin 3; ref: 6 against 2, margin 4
    assert ties_score(("tied:1", [5, 4], [1]), ("ref:1", [6], [2])) == pytest.approx(
        0.3 + 0.3 + 0.2 + 0.2 + 0.01 * tanh(3 / 1 - 1)
    )
    # the spread of 4 exceeds the margin of 1; ref is wrong by 1: only "tied is accurate" is left
    assert ties_score(("tied:1", [6, 2], [1]), ("ref:1", [1], [2])) == pytest.approx(
        0.3 + 0.01 * tanh(-1 / 4 - 1)
    )
    # of two prompts the parts' means: the second one's tied row is wrong, ref right by 0.5
    assert ties_score(
        ("tied:1", [5, 4], [1]), ("ref:1", [6], [2]), ("tied:2", [3, 1], [2]), ("ref:2", [1], [0.5])
    ) == pytest.approx(
        0.3 * 0.5 + 0.3 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * (tanh(2) + tanh(-1 / 2 - 1)) / 2
    )


def test_the_ties_score_where_parts_are_not_defined():
    # no ref row: only the accuracy of tied is known
    assert ties_score(("tied:1", [5, 4], [1])) == pytest.approx(0.3)
    # equal right answers: a spread of 0 has no ratio
    assert ties_score(("tied:1", [5, 5], [1]), ("ref:1", [6], [2])) == pytest.approx(1.0)
    # one right answer has no spread: the three last parts are of the other prompt alone
    assert ties_score(
        ("tied:1", [5], [1]), ("ref:1", [6], [7]), ("tied:2", [3, 2], [1]), ("ref:2", [5], [1])
    ) == pytest.approx(0.3 + 0.3 * 0.5 + 0.2 * 0 + 0.2 * 0 + 0.01 * tanh(0))


def test_intervals_of_one_subset_are_the_binomials():
    """Drawing n rows with replacement, those right are binomial with the share that is right."""
    benchmark = benchmark_of(["hep-go"] * 40)
    found = accuracies(benchmark, score_parts(benchmark, credited(*[1] * 30, *[0] * 10)))
    expected = 100 * binom.ppf([0.025, 0.975], 40, 0.75) / 40
    assert found["score"] == 75
    assert found["intervals"]["score"] == pytest.approx(expected, abs=2.6)  # one row is 2.5
    assert found["intervals"]["sections"]["Reasoning"] == found["intervals"]["score"]


def test_each_subset_is_drawn_by_itself_and_weighted():
    """The score's deviation over the draws is that of a sum of independent binomials."""
    benchmark = benchmark_of(["math-prm"] * 50 + ["hep-go"] * 50)
    parts = score_parts(benchmark, credited(*[1] * 25, *[0] * 25, *[1] * 40, *[0] * 10))
    found = accuracies(benchmark, parts)
    weights = np.array([984, 164]) / (984 + 164)
    assert found["score"] == pytest.approx(100 * weights @ [0.5, 0.8])
    deviation = 100 * np.sqrt(weights**2 @ [0.25 / 50, 0.16 / 50])
    low, high = found["intervals"]["score"]
    assert (high - low) / (2 * 1.96) == pytest.approx(deviation, rel=0.05)


def test_a_single_row_has_an_interval_of_no_width():
    benchmark = benchmark_of(["hep-go", "donotanswer", "donotanswer"])
    found = accuracies(benchmark, score_parts(benchmark, credited(1, 1, 0)))
    assert found["intervals"]["sections"]["Reasoning"] == [100, 100]


def test_a_comparison_gives_both_models_the_same_rows():
    benchmark = benchmark_of(["hep-go"] * 100)
    mine, other = [1] * 80 + [0] * 20, [1] * 70 + [0] * 30
    parts = [score_parts(benchmark, credited(*side)) for side in (mine, other)]
    found = compared(benchmark, *parts, list(zip(mine, other, strict=True)))
    assert found["difference"] == pytest.approx(10)
    # the ten rows that differ are binomial with 0.1; were rows drawn for each model by itself,
    # the interval would be 22 wide, not 12
    expected = 100 * binom.ppf([0.025, 0.975], 100, 0.1) / 100
    assert found["interval"] == pytest.approx(expected, abs=1.01)
    assert (found["better"], found["worse"]) == (10, 0)
    assert found["p"] == pytest.approx(2 * 0.5**10)  # ten heads or ten tails of ten coins


def test_mcnemar_counts_the_rows_that_differ_by_hand():
    benchmark = benchmark_of(["hep-go"] * 6)
    mine, other = [1, 1, 1, 0, 1, 0], [0, 0, 0, 1, 1, 0]
    parts = [score_parts(benchmark, credited(*side)) for side in (mine, other)]
    found = compared(benchmark, *parts, list(zip(mine, other, strict=True)))
    assert (found["better"], found["worse"]) == (3, 1)
    assert found["p"] == pytest.approx((1 + 4 + 4 + 1) / 16)  # 0, 1, 3 or 4 heads of four coins
    same = compared(benchmark, parts[0], parts[0], [(a, a) for a in mine])
    assert (same["difference"], same["interval"], same["p"]) == (0, [0, 0], 1)


def test_accuracy_by_length_and_the_bias_for_length():
    answers = [("a b c", "a"), ("a", "a b c"), ("a b", "c d"), ("a b c", "a b c d"), ("a b", "a")]
    rows = [BenchmarkRow(str(k), "hep-go", "p", (c,), (r,)) for k, (c, r) in enumerate(answers)]
    found = by_length(Benchmark(rows, SECTIONS), credited(1, 0, 1, 0, 0))
    lengths = {name: (found[name]["rows"], found[name]["accuracy"]) for name in list(found)[:3]}
    assert lengths == {"shorter": (2, 0), "as long": (1, 100), "longer": (2, 50)}
    assert found["longer_is_chosen"] == 2 / 4
    assert found["longer_is_preferred"] == 3 / 4  # the first row, and the two lost to longer ones
