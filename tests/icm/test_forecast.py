"""The forecast of a labeling's accuracy from its signals."""

import math
import random

import pytest

from icm_rl.icm.forecast import Fit, Forecast, Known, features, fitted
from icm_rl.icm.signals import Signals


def signals_of(accuracy: float, rng: random.Random, noise: float = 0.0) -> Signals:
    """Those of a model that knows the concept, and gives each label back that is right."""
    share = min(max(accuracy + rng.gauss(0, noise), 0.02), 0.98)
    return Signals(
        **dict.fromkeys(("agreement", "shuffled_agreement", "reversed_agreement"), share),
        **{"zero_shot_agreement": share, "stability": 1.0, "coherence": 2 * (2 * share - 1)},
        **{"shuffled_coherence": 0.0, "excess": 5.0, "reversed_coherence": -2 * (2 * share - 1)},
        **{"confidence": 0.8 - share, "largest_share": 0.5},
    )


def labelings(count: int, noise: float) -> list[Known]:
    rng = random.Random(0)
    return [
        Known(signals_of(accuracy, rng, noise), accuracy, f"task {k % 5}", "model")
        for k, accuracy in enumerate(rng.uniform(0.3, 0.97) for _ in range(count))
    ]


def test_what_the_signals_tell_is_forecast():
    fit = fitted(labelings(60, noise=0.0))
    rng = random.Random(1)
    for accuracy in (0.35, 0.6, 0.8, 0.95):
        found = fit.forecast(signals_of(accuracy, rng))
        assert found.accuracy == pytest.approx(accuracy, abs=0.03)
        assert found.low < found.accuracy < found.high


def test_nine_in_ten_labelings_that_were_not_seen_are_in_the_interval():
    known = labelings(400, noise=0.08)
    fit = fitted(known[:200])
    found = [(fit.forecast(one.signals), one.accuracy) for one in known[200:]]
    inside = sum(forecast.low <= accuracy <= forecast.high for forecast, accuracy in found)
    assert 0.83 < inside / 200 < 0.97


def test_the_forecast_by_hand():
    signals = signals_of(0.75, random.Random(0))
    # the log-odds of 0.75 five times, of which stability is cut at 0.98; then the others
    odds, most = math.log(3), math.log(0.98 / 0.02)
    expected = [*[odds] * 4, most, 1.0, 2.0, 0.05, 0.0]
    assert features(signals) == pytest.approx(expected)
    fit = Fit([0.5, 0.5, 0, 0, 0, 0, 0, 0, 0], intercept=0.2, width=1.0)
    found = fit.forecast(signals)
    sigmoid = [1 / (1 + math.exp(-(odds + 0.2 + by))) for by in (0, -1, 1)]
    assert (found.accuracy, found.low, found.high) == pytest.approx(tuple(sigmoid))


@pytest.mark.parametrize(
    ("accuracy", "low", "verdict"),
    [
        (0.95, 0.86, "trust"),
        (0.95, 0.8, "look first"),
        (0.72, 0.5, "look first"),
        (0.6, 0.4, "do not use"),
    ],
)
def test_the_verdict_follows_from_the_interval(accuracy, low, verdict):
    assert Forecast(accuracy, low, 1.0).verdict == verdict


def test_each_task_counts_as_much_as_another():
    rng = random.Random(0)
    few = [Known(signals_of(0.9, rng), 0.9, "few", "m")] * 2
    many = [Known(signals_of(0.9, rng), 0.5, "many", "m")] * 20
    found = fitted([*few, *many]).forecast(signals_of(0.9, rng))
    assert found.accuracy == pytest.approx(0.75, abs=0.01)  # between log-odds of 0.9 and of 0.5


def test_the_shipped_fit_has_a_weight_for_each_feature():
    fit, sure = Fit.shipped(), signals_of(0.95, random.Random(0))
    assert len(fit.weights) == len(features(sure))
    unsure = signals_of(0.5, random.Random(0))
    assert fit.forecast(sure).accuracy > fit.forecast(unsure).accuracy


@pytest.mark.parametrize(
    ("accuracy", "labels", "judged"),
    [
        (0.5, 10**9, 97),  # 1.96² / 4 / 0.1²
        (0.9, 10**9, 35),
        (0.5, 96, 49),
        (0.5, 10, 10),
    ],
)
def test_how_many_labels_tell_their_accuracy_within_ten_points(accuracy, labels, judged):
    assert Forecast(accuracy, 0.0, 1.0).to_audit(labels) == judged
