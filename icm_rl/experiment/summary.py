"""What an experiment found: means with intervals, differences, gaps recovered, the frontier."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

WAYS = ("prompted", "fine_tuned")
RESAMPLES = 2_000
MARGIN = 0.02
"""How much better another method must be to count as better."""

Figures = Mapping[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and test examples, with its 95 % bootstrap interval."""

    mean: float
    interval: Interval


@dataclass(frozen=True)
class Line:
    """A method's figures on one model and task.

    Attributes:
        method: Its name.
        labels: The share of the training split's labels that are right, a seed each.
        accuracy: By ``prompted`` and ``fine_tuned``, the share of the test split that is right.
        difference: The same less the reference's, on the same examples and seeds; None for itself.
        recovered: The share of the way from zero-shot to golden labels; None where there is none.
        tokens: Computed tokens of the labeling, the mean over seeds.
        trained: Trained tokens.
        seconds: Seconds.
    """

    method: str
    labels: list[float]
    accuracy: dict[str, Estimate]
    difference: dict[str, Estimate | None]
    recovered: dict[str, float | None]
    tokens: float
    trained: float
    seconds: float


def summary(
    found: Sequence[Figures], groups: Mapping[str, str], reference: str, golden: str | None
) -> list[Line]:
    """One line a method, of the cells of one model and task.

    Args:
        found: The cells' figures.
        groups: The consistency group of each test example; whole groups are resampled.
        reference: The method that the others are compared with.
        golden: The method that takes gold labels, where there is one.
    """
    by_method: dict[str, list[Figures]] = defaultdict(list)
    for figures in sorted(found, key=lambda figures: figures["seed"]):
        by_method[figures["method"]].append(figures)
    ways = [way for way in WAYS if way in found[0]]
    sums = {
        (method, way): _group_sums([figures[way] for figures in cells], groups)
        for method, cells in by_method.items()
        for way in ways
    }
    counts = _group_counts(groups)
    alone = fmean(fmean(figures["zero_shot"].values()) for figures in found)
    lines = []
    for method, cells in by_method.items():
        accuracy, difference, recovered = {}, {}, {}
        for way in ways:
            own, base = sums[method, way], sums[reference, way]
            accuracy[way] = estimate(own, counts)
            difference[way] = estimate(own - base, counts) if method != reference else None
            best = _mean(sums[golden, way], counts) if golden else alone
            gap = best - alone
            recovered[way] = (accuracy[way].mean - alone) / gap if gap > MARGIN else None
        lines.append(
            Line(
                method,
                [figures["label_accuracy"] for figures in cells],
                accuracy,
                difference,
                recovered,
                fmean(figures["computed_tokens"] for figures in cells),
                fmean(figures["trained_tokens"] for figures in cells),
                fmean(figures["seconds"] for figures in cells),
            )
        )
    return lines


def estimate(sums: np.ndarray, counts: np.ndarray) -> Estimate:
    """The mean, and its 95 % interval by resampling seeds and groups with replacement.

    Args:
        sums: (seeds, groups): how many of a group's examples are right, or more right.
        counts: (groups,): how many examples a group has.
    """
    rng = np.random.default_rng(0)
    seeds, groups = sums.shape
    drawn_seeds = rng.integers(seeds, size=(RESAMPLES, seeds))
    drawn = rng.integers(groups, size=(RESAMPLES, groups))
    means = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        own = sums[drawn_seeds[k]].mean(0)
        means[k] = own[drawn[k]].sum() / counts[drawn[k]].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(_mean(sums, counts), (float(low), float(high)))


def family(method: str) -> str:
    """The name that the variants of a method share: of ``search/3`` it is ``search``."""
    return method.partition("/")[0]


def frontier(lines: Sequence[Line]) -> dict[str, list[tuple[float, float]]]:
    """For each family, its variants' tokens, trained ones too, and right labels in percent."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in lines:
        spent = line.tokens + line.trained
        points[family(line.method)].append((spent, 100 * fmean(line.labels)))
    return {name: sorted(of_family) for name, of_family in points.items()}


def better_than_icm(
    lines: Sequence[Line], icm: Sequence[str], unsupervised: Sequence[str]
) -> list[str]:
    """The methods whose labels are right by two points more often than ICM's, for no more tokens.

    ICM's are those of its best setting; what is computed and what is trained both count.

    Args:
        lines: The methods' figures.
        icm: The methods that are ICM.
        unsupervised: The others that take no label from anyone.
    """
    best = max((line for line in lines if line.method in icm), key=lambda line: fmean(line.labels))
    return [
        line.method
        for line in lines
        if line.method in unsupervised
        and line.tokens + line.trained <= best.tokens + best.trained
        and fmean(line.labels) > fmean(best.labels) + MARGIN
    ]


def _group_sums(right: Sequence[Mapping[str, bool]], groups: Mapping[str, str]) -> np.ndarray:
    """(seeds, groups): how many of each group's examples are right."""
    names = {name: k for k, name in enumerate(dict.fromkeys(groups.values()))}
    sums = np.zeros((len(right), len(names)))
    for seed, of_seed in enumerate(right):
        for id, is_right in of_seed.items():
            sums[seed, names[groups[id]]] += is_right
    return sums


def _group_counts(groups: Mapping[str, str]) -> np.ndarray:
    return _group_sums([dict.fromkeys(groups, True)], groups)[0]


def _mean(sums: np.ndarray, counts: np.ndarray) -> float:
    return float(sums.mean(0).sum() / counts.sum())
