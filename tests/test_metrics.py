"""The metric modules, as a user of evaluate loads them."""

import evaluate
import pytest
from scipy.stats import rankdata

from tests.conftest import ROOT

METRICS = ROOT / "eval" / "metrics"


@pytest.fixture(scope="module")
def rewardbench():
    return evaluate.load(str(METRICS / "rewardbench"), keep_in_memory=True)


def test_rewardbench_by_hand(rewardbench):
    rows = [
        ("alpacaeval-easy", 2.0, 1.0),
        ("alpacaeval-easy", 1.0, 1.0),
        ("math-prm", 3.0, -1.0),
        ("hep-cpp", 0.0, 1.0),
    ]
    found = rewardbench.compute(
        predictions=[{"chosen": [c], "rejected": [r]} for _, c, r in rows],
        references=[{"id": str(k), "subset": subset} for k, (subset, _, _) in enumerate(rows)],
    )
    assert found["subsets"] == {"alpacaeval-easy": 50.0, "math-prm": 100.0, "hep-cpp": 0.0}
    reasoning = 100 * 984 / (984 + 164)
    assert found["sections"] == pytest.approx({"Chat": 50.0, "Reasoning": reasoning})
    assert found["score"] == pytest.approx((50 + reasoning) / 2)
    low, high = found["intervals"]["subsets"]["alpacaeval-easy"]
    assert (low, high) == (0.0, 100.0)


def test_rewardbench_takes_how_right_a_row_is(rewardbench):
    references = [{"id": str(k), "subset": "donotanswer"} for k in range(4)]
    found = rewardbench.compute(predictions=[1.0, 0.5, 0.5, 0.0], references=references)
    assert found["score"] == 50.0


def test_rewardbench_2_is_best_of_four(rewardbench):
    references = [{"id": "0", "subset": "Math"}, {"id": "1", "subset": "Math"}]
    predictions = [
        {"chosen": [3.0], "rejected": [1.0, 2.0, 3.0]},
        {"chosen": [3.0], "rejected": [1.0, 2.0, 4.0]},
    ]
    found = rewardbench.compute(predictions=predictions, references=references, best_of=True)
    assert found["subsets"] == {"Math": 25.0}


def test_the_win_rate_is_that_of_mann_and_whitney():
    """Of all pairs of two samples, U / (m·n) is the share won, a tie counting half."""
    metric = evaluate.load(str(METRICS / "win_rate"), keep_in_memory=True)
    one, other = [0.1, 0.4, 0.4, 2.0, -1.0], [0.0, 0.4, 1.0]
    pairs = [(a, b) for a in one for b in other]
    found = metric.compute(
        predictions=[a for a, _ in pairs],
        references=[b for _, b in pairs],
        prediction_lengths=[7] * len(pairs),
        reference_lengths=[7] * len(pairs),
    )
    ranks = rankdata([*one, *other])[: len(one)].sum()
    expected = (ranks - len(one) * (len(one) + 1) / 2) / len(pairs)
    assert found["win_rate"] == pytest.approx(expected)
    assert found["length_controlled_win_rate"] == pytest.approx(expected)
    assert found["wins"] == [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]


@pytest.mark.parametrize("name", ["rewardbench", "win_rate"])
def test_a_metric_describes_itself(name):
    metric = evaluate.load(str(METRICS / name), keep_in_memory=True)
    assert metric.description.strip() and metric.citation.strip()
    assert "Examples:" in metric.inputs_description
    assert (METRICS / name / "README.md").read_text().startswith("---\ntitle: ")
