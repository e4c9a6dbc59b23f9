"""How right labels are, forecast from the signals of a labeling, without any gold label.

A ridge regression of the log-odds of the accuracy on the signals, fitted to labelings of known
accuracy (``benchmarks/forecast.py``). Its interval is conformal: as wide as the errors were on
tasks that the regression had not seen.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from icm_rl.icm.signals import Signals

COVERAGE = 0.9
"""Of so many labelings the accuracy is to lie in the interval."""
TRUSTED, REFUSED = 0.85, 0.7
_NORMAL_95 = 1.96
_MARGIN = 0.1
_LEAST = 0.02
_RIDGE = 1.0


@dataclass(frozen=True)
class Forecast:
    """The share of labels that are right, as forecast.

    Attributes:
        accuracy: 0–1.
        low: Where the interval begins that holds 90 %.
        high: Where it ends.
    """

    accuracy: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``trust``, ``look first`` or ``do not use``."""
        if self.low >= TRUSTED:
            return "trust"
        return "do not use" if self.accuracy < REFUSED else "look first"

    def to_audit(self, labels: int) -> int:
        """How many of the labels, drawn at random, tell their accuracy within 10 points.

        The sample of a 95 % interval of that width where the accuracy is the one forecast, less
        where it is a large part of all.
        """
        of_many = self.accuracy * (1 - self.accuracy) * (_NORMAL_95 / _MARGIN) ** 2
        return math.ceil(of_many / (1 + (of_many - 1) / labels))

    def to_json(self, labels: int) -> dict[str, Any]:
        """The forecast of so many labels as ``metrics.json`` has it."""
        return {**asdict(self), "verdict": self.verdict, "to_audit": self.to_audit(labels)}


@dataclass(frozen=True)
class Fit:
    """A fitted regression.

    Attributes:
        weights: A weight each feature, of the log-odds of the accuracy.
        intercept: The log-odds where all features are 0.
        width: How far from the forecast the log-odds of nine in ten unseen labelings are at most.
    """

    weights: Sequence[float]
    intercept: float
    width: float

    def forecast(self, signals: Signals) -> Forecast:
        """What it says of a labeling."""
        odds = self.intercept + float(np.dot(self.weights, features(signals)))
        return Forecast(*map(_sigmoid, (odds, odds - self.width, odds + self.width)))

    @classmethod
    def shipped(cls) -> "Fit":
        """The one that comes with the package, of ``benchmarks/forecast.py``."""
        return cls(**json.loads(files(__package__).joinpath("forecast.json").read_text("utf-8")))

    def to_json(self) -> dict[str, Any]:
        """The fit as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Known:
    """A labeling whose accuracy is known.

    Attributes:
        signals: Its signals.
        accuracy: The share of its labels that are right.
        task: What was labeled.
        model: By which model.
    """

    signals: Signals
    accuracy: float
    task: str
    model: str


def features(signals: Signals) -> list[float]:
    """What the regression sees: shares as log-odds, and how far log-odds are above chance."""
    shares = (
        signals.agreement,
        signals.shuffled_agreement,
        signals.reversed_agreement,
        signals.zero_shot_agreement,
        signals.stability,
    )
    return [
        *map(_log_odds, shares),
        signals.coherence - signals.shuffled_coherence,
        signals.coherence - signals.reversed_coherence,
        signals.confidence,
        abs(signals.largest_share - 0.5),
    ]


def fitted(known: Sequence[Known]) -> Fit:
    """The regression of some labelings; each task counts as much as another.

    Its width is that of its errors on tasks left out, one after the other.
    """
    errors: list[float] = []
    tasks = sorted({one.task for one in known})
    for task in tasks:
        rest = [one for one in known if one.task != task]
        if rest:
            weights, intercept = _regression(rest)
            fit = Fit(weights, intercept, 0.0)
            own = [one for one in known if one.task == task]
            errors += [abs(_odds(fit, one) - _log_odds(one.accuracy)) for one in own]
    rank = min(len(errors) - 1, math.ceil((len(errors) + 1) * COVERAGE) - 1)
    return Fit(*_regression(known), sorted(errors)[rank] if errors else math.inf)


def _regression(known: Sequence[Known]) -> tuple[list[float], float]:
    scaler = StandardScaler()
    values = scaler.fit_transform([features(one.signals) for one in known])
    odds = [_log_odds(one.accuracy) for one in known]
    counts = {task: sum(one.task == task for one in known) for task in {k.task for k in known}}
    shares = [len(known) / len(counts) / counts[one.task] for one in known]
    ridge = Ridge(_RIDGE).fit(values, odds, sample_weight=shares)
    weights = ridge.coef_ / scaler.scale_
    return weights.tolist(), float(ridge.intercept_ - weights @ scaler.mean_)


def _odds(fit: Fit, one: Known) -> float:
    return _log_odds(fit.forecast(one.signals).accuracy)


def _log_odds(share: float) -> float:
    share = min(max(share, _LEAST), 1 - _LEAST)
    return math.log(share / (1 - share))


def _sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))
