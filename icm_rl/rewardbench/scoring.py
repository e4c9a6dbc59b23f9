"""From scores of answers to accuracies, their confidence intervals, and paired comparisons."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap

from icm_rl.rewardbench.benchmark import TIES, Benchmark, BenchmarkRow

_RESAMPLES = 9999
_LEVEL = 0.95
_AS_LONG = 0.1

_TIES_WEIGHTS = np.array([0.3, 0.3, 0.2, 0.2, 0.01])


@dataclass(frozen=True)
class RowScore:
    """What a model says of a row's answers.

    Attributes:
        chosen: A number for each chosen answer.
        rejected: A number for each rejected answer.
        credit: How right that is, 0 to 1; of no meaning in Ties, which are scored as a whole.
    """

    chosen: list[float]
    rejected: list[float]
    credit: float


def credit(chosen: Sequence[float], rejected: Sequence[float], best_of: bool) -> float:
    """How right a row is by its answers' scores.

    RewardBench: 1 where the chosen answer scores higher, otherwise 0. RewardBench 2: 1/k where the
    chosen one is among the k answers of the highest score, otherwise 0.
    """
    if not best_of:
        return float(chosen[0] > rejected[0])
    scores = [*chosen, *rejected]
    highest = max(scores)
    return 1 / scores.count(highest) if chosen[0] == highest else 0.0


def ties_parts(rows: Sequence[BenchmarkRow], scores: Sequence[RowScore]) -> np.ndarray:
    """The five parts of RewardBench 2's Ties score, prompt by prompt.

    A prompt N stands in two rows: ``tied:N`` with several right answers and ``ref:N`` with one. A
    row is accurate where all right answers score higher than all wrong ones, by a margin; the right
    ones' spread should be smaller than that. The parts: is ``tied`` accurate; is ``ref``; is the
    margin of ``tied`` larger than the spread; is the smaller margin of both; and
    tanh(smaller margin / spread − 1).

    Returns:
        (prompts, 5); not a number where a part is not defined.
    """
    margins: dict[str, dict[str, float]] = {"ref": {}, "tied": {}}
    spreads = {}
    for row, score in zip(rows, scores, strict=True):
        kind, _, prompt = row.id.partition(":")
        margins[kind][prompt] = min(score.chosen) - max(score.rejected)
        if kind == "tied" and len(score.chosen) > 1:
            spreads[prompt] = max(score.chosen) - min(score.chosen)
    parts = []
    for prompt in dict.fromkeys([*margins["tied"], *margins["ref"]]):
        tied, ref = (margins[kind].get(prompt, math.nan) for kind in ("tied", "ref"))
        part = [_above(tied, 0), _above(ref, 0), math.nan, math.nan, math.nan]
        if prompt in spreads and prompt in margins["ref"]:
            spread, smaller = spreads[prompt], min(tied, ref)
            part[2:4] = _above(tied, spread), _above(smaller, spread)
            part[4] = math.tanh(smaller / spread - 1) if spread > 0 else math.nan
        parts.append(part)
    return np.array(parts)


def _above(value: float, other: float) -> float:
    return math.nan if math.isnan(value) else float(value > other)


Parts = Mapping[str, np.ndarray]
"""What each subset's value is a weighted mean of: its rows' credits, or the parts of Ties."""


def score_parts(benchmark: Benchmark, scores: Sequence[RowScore]) -> dict[str, np.ndarray]:
    """Each subset's parts, (rows, 1), or (prompts, 5) of Ties."""
    parts = {}
    for subset, rows in benchmark.subsets.items():
        if benchmark.best_of and subset == TIES:
            parts[subset] = ties_parts([benchmark.rows[i] for i in rows], [scores[i] for i in rows])
        else:
            parts[subset] = np.array([[scores[i].credit] for i in rows])
    return parts


def _value(parts: np.ndarray) -> np.ndarray:
    """A subset's value in percent: the parts' means where defined, (…, rows, parts), weighted."""
    defined = ~np.isnan(parts)
    sums = np.where(defined, parts, 0).sum(-2)
    means = sums / np.maximum(defined.sum(-2), 1)
    return 100 * (means @ (_TIES_WEIGHTS if parts.shape[-1] > 1 else np.ones(1)))


def accuracies(benchmark: Benchmark, parts: Parts) -> dict[str, Any]:
    """In percent: by subset, by section, and the score; with 95 % confidence intervals.

    The intervals are percentiles of a bootstrap that draws each subset's rows (the prompts of
    Ties) with replacement.
    """
    found = {subset: _value(values) for subset, values in parts.items()}
    sections = benchmark.section_scores(found)
    names = [*found, *sections]

    def statistic(*indices: np.ndarray) -> np.ndarray:
        drawn = {s: _value(parts[s][i]) for s, i in zip(parts, indices, strict=True)}
        by_section = benchmark.section_scores(drawn)
        return np.array([*drawn.values(), *by_section.values(), benchmark.score(by_section)])

    low, high = _bootstrap(parts, statistic)
    intervals = [[float(a), float(b)] for a, b in zip(low, high, strict=True)]
    return {
        "subsets": {subset: float(value) for subset, value in found.items()},
        "sections": {section: float(value) for section, value in sections.items()},
        "score": float(benchmark.score(sections)),
        "intervals": {
            "subsets": dict(zip(found, intervals, strict=False)),
            "sections": dict(zip(names[len(found) :], intervals[len(found) :], strict=False)),
            "score": intervals[-1],
        },
    }


def mean_interval(benchmark: Benchmark, values: Sequence[float]) -> list[float]:
    """The 95 % bootstrap interval of the mean over all rows; the rows of a prompt are drawn as one.

    Rows of one prompt say less than as many rows of different prompts.
    """
    by_prompt: dict[str, list[float]] = {}
    for row, value in zip(benchmark.rows, values, strict=True):
        by_prompt.setdefault(str(row.prompt), []).append(value)
    sums = np.array([(sum(found), len(found)) for found in by_prompt.values()])

    def statistic(prompts: np.ndarray) -> np.ndarray:
        drawn = sums[prompts].sum(-2)
        return drawn[..., 0] / drawn[..., 1]

    return [float(bound) for bound in _bootstrap({"prompts": sums}, statistic)]


def compared(
    benchmark: Benchmark, parts: Parts, others: Parts, rows: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """One model's results against another's on the same rows.

    Args:
        benchmark: The rows.
        parts: The model's.
        others: The other model's.
        rows: Both credits of each row, this model's first.

    Returns:
        The ``difference`` of the scores with its bootstrap ``interval``, in which both models are
        given the same rows each time; on how many rows the model is ``better`` and ``worse``; and
        ``p`` of McNemar's exact test, that as many would fall apart so by chance.
    """

    def score(drawn: Parts) -> np.ndarray:
        found = {subset: _value(values) for subset, values in drawn.items()}
        return benchmark.score(benchmark.section_scores(found))

    def statistic(*indices: np.ndarray) -> np.ndarray:
        both = (
            score({s: side[s][i] for s, i in zip(side, indices, strict=True)})
            for side in (parts, others)
        )
        mine, theirs = both
        return mine - theirs

    low, high = _bootstrap(parts, statistic)
    better = sum(mine > other for mine, other in rows)
    worse = sum(mine < other for mine, other in rows)
    return {
        "difference": float(score(parts) - score(others)),
        "interval": [float(low), float(high)],
        "better": better,
        "worse": worse,
        "p": float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
    }


def _bootstrap(parts: Parts, statistic: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a statistic of row indices, each subset's drawn by itself."""
    sizes = [len(values) for values in parts.values()]
    # one row has no others to be drawn in its place, which scipy refuses; twice it stays itself
    data = tuple(np.arange(size) if size > 1 else np.zeros(2, int) for size in sizes)

    def drawn(*indices: np.ndarray, axis: int) -> np.ndarray:
        return statistic(*(index.astype(int) for index in indices))

    interval = bootstrap(
        data,
        drawn,
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=500,
        confidence_level=_LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return interval.low, interval.high


def by_length(benchmark: Benchmark, scores: Sequence[RowScore]) -> dict[str, Any]:
    """Accuracy by how much longer the chosen answer is than the rejected ones, in words.

    Returns:
        For rows whose chosen answer is shorter, about as long (the shorter has nine tenths of the
        longer's words or more) and longer: how many, the accuracy in percent and its interval; and
        ``longer_is_chosen`` and ``longer_is_preferred``, shares of the rows of unequal length, 0–1,
        whose difference is the model's bias for length. Ties are left out.
    """
    groups: dict[str, list[float]] = {"shorter": [], "as long": [], "longer": []}
    longer, preferred = [], []
    for row, score in zip(benchmark.rows, scores, strict=True):
        if benchmark.best_of and row.subset == TIES:
            continue
        own, other = (
            sum(len(answer.split()) for answer in answers) / len(answers)
            for answers in (row.chosen, row.rejected)
        )
        if min(own, other) >= (1 - _AS_LONG) * max(own, other):
            groups["as long"].append(score.credit)
        else:
            groups["longer" if own > other else "shorter"].append(score.credit)
        if own != other:
            longer.append(float(own > other))
            preferred.append(score.credit if own > other else 1 - score.credit)
    found: dict[str, Any] = {}
    for name, credits in groups.items():
        if credits:
            parts = {name: np.array(credits)[:, None]}
            low, high = _bootstrap(parts, lambda i, p=parts[name]: _value(p[i]))
            accuracy = float(_value(parts[name]))
            found[name] = {
                "rows": len(credits),
                "accuracy": accuracy,
                "interval": [float(low), float(high)],
            }
    if longer:
        found["longer_is_chosen"] = sum(longer) / len(longer)
        found["longer_is_preferred"] = sum(preferred) / len(preferred)
    return found
