"""RewardBench (Lambert et al. 2024) and RewardBench 2 (Malik et al. 2025): rows and sections.

The counts, the sections and the weights are those of the public repository allenai/reward-bench.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from icm_rl.data import Row, Source
from icm_rl.errors import InputError
from icm_rl.tasks.base import Messages

PRIOR_SETS = "Prior Sets"
TIES = "Ties"

SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
"""The subsets of each section of RewardBench and their official weights."""

SECTIONS_2 = {
    name: {name: 1} for name in ("Factuality", "Precise IF", "Math", "Safety", "Focus", TIES)
}
"""RewardBench 2: each subset is a section."""

_PRIOR_SETS = {
    "anthropic_helpful": 1,
    "anthropic_hhh": 1,
    "shp": 1,
    "summarize": 1,
}
"""The prior test sets that count; each with the same weight."""
_OTHER_PRIOR_SETS = ("anthropic_harmless", "mtbench_gpt4", "mtbench_human")
_PRIOR_SETS_ON_HUB = "allenai/preference-test-sets"
_PRIOR_SETS_WEIGHT = 0.5
"""How much their section counts in the score; each other section counts 1."""


@dataclass(frozen=True)
class BenchmarkRow:
    """A prompt with its chosen and rejected answers, one of each but in RewardBench 2.

    Attributes:
        id: The row's id.
        subset: Where it comes from.
        prompt: Text, or messages of which the last is the user's.
        chosen: The right answers.
        rejected: The wrong answers.
        where: Where the row stands in its file.
    """

    id: str
    subset: str
    prompt: str | Messages
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    where: str = ""

    @property
    def messages(self) -> Messages:
        """The prompt as messages."""
        if isinstance(self.prompt, str):
            return [{"role": "user", "content": self.prompt}]
        return self.prompt


@dataclass(frozen=True)
class Benchmark:
    """Rows, and the sections that score them.

    Attributes:
        rows: In the file's order.
        sections: For each section its subsets and their weights.
        best_of: Whether rows have several answers, as in RewardBench 2.
    """

    rows: Sequence[BenchmarkRow]
    sections: Mapping[str, Mapping[str, float]]
    best_of: bool = False

    @cached_property
    def subsets(self) -> dict[str, list[int]]:
        """The rows of each subset: those of the sections in their order, then all others."""
        found: dict[str, list[int]] = {
            subset: [] for subsets in self.sections.values() for subset in subsets
        }
        for index, row in enumerate(self.rows):
            found.setdefault(row.subset, []).append(index)
        return {subset: rows for subset, rows in found.items() if rows}

    @property
    def unknown_subsets(self) -> list[str]:
        """The subsets that are in no section; they are counted apart."""
        known = {subset for subsets in self.sections.values() for subset in subsets}
        return [subset for subset in self.subsets if subset not in known]

    @property
    def empty_sections(self) -> list[str]:
        """The sections without a row."""
        return [name for name, subsets in self.sections.items() if not {*subsets} & {*self.subsets}]

    def subset_means(self, values: Sequence[float]) -> dict[str, float]:
        """The mean of the rows' values by subset."""
        return {
            subset: fmean(values[index] for index in rows) for subset, rows in self.subsets.items()
        }

    def section_scores(self, by_subset: Mapping[str, Any]) -> dict[str, Any]:
        """Each section's mean over its subsets, weighted by the official counts.

        Values are numbers, or arrays of one value a resampling.

        A section counts the subsets that are there; one without any is left out.
        """
        scores = {}
        for section, weights in self.sections.items():
            present = {subset: weight for subset, weight in weights.items() if subset in by_subset}
            if present:
                total = sum(by_subset[subset] * weight for subset, weight in present.items())
                scores[section] = total / sum(present.values())
        return scores

    def score(self, sections: Mapping[str, Any]) -> Any:
        """The mean of the sections; prior test sets count half, as on RewardBench's leaderboard."""
        weights = {name: _PRIOR_SETS_WEIGHT if name == PRIOR_SETS else 1.0 for name in sections}
        return sum(sections[name] * weights[name] for name in sections) / sum(weights.values())


def load_benchmark(source: str | Path, prior_sets: str | Path | None = None) -> Benchmark:
    """Reads RewardBench or RewardBench 2 from the Hub or from a file in its columns.

    Args:
        source: ``allenai/reward-bench`` (split ``filtered``), ``allenai/reward-bench-2`` (split
            ``test``), or a file with ``prompt``, ``chosen``, ``rejected`` and ``subset``.
        prior_sets: ``allenai/preference-test-sets``, or a file in the same columns; they become
            RewardBench's fifth section.

    Raises:
        InputError: A file or a row is bad, no subset is one of the benchmark's, or the prior sets
            are asked for beside RewardBench 2.
    """
    second = str(source).endswith("reward-bench-2")
    found = list(Source(str(source), split="test" if second else "filtered").rows())
    best_of = isinstance(found[0]["chosen"], list)
    if best_of and prior_sets:
        raise InputError("--prior_sets is a section of RewardBench, not of RewardBench 2; drop it")
    rows = [_row(row, index, best_of) for index, row in enumerate(found)]
    if prior_sets:
        rows += [_row(row, index) for index, row in enumerate(_prior_rows(str(prior_sets)))]
    benchmark = benchmark_of_rows(rows, best_of, bool(prior_sets))
    if len(benchmark.empty_sections) == len(benchmark.sections):
        raise InputError(
            f"{source}: no row's subset is one of RewardBench's ({', '.join(benchmark.subsets)}); "
            "check the column 'subset'"
        )
    return benchmark


def benchmark_of_rows(
    rows: Sequence[BenchmarkRow], best_of: bool = False, prior_sets: bool = False
) -> Benchmark:
    """Rows with the sections that score them.

    Args:
        rows: The benchmark's.
        best_of: Whether they are RewardBench 2's.
        prior_sets: Whether the prior test sets are RewardBench's fifth section.
    """
    sections: Mapping[str, Mapping[str, float]] = SECTIONS_2 if best_of else SECTIONS
    if prior_sets:
        sections = {**sections, PRIOR_SETS: _PRIOR_SETS}
    return Benchmark(rows, sections, best_of)


def _prior_rows(source: str) -> Iterable[Row]:
    """The prior sets' rows; on the Hub each set is a split, and the split is its subset."""
    if source != _PRIOR_SETS_ON_HUB:
        yield from Source(source).rows()
        return
    for name in (*_PRIOR_SETS, *_OTHER_PRIOR_SETS):
        for row in Source(source, split=name).rows():
            yield Row(row.where, {**row.values, "subset": name})


def _row(row: Row, index: int, best_of: bool = False) -> BenchmarkRow:
    prompt = row["prompt"]
    prompt = row.messages("prompt", "user") if isinstance(prompt, list) else row.text("prompt")
    read = row.texts if best_of else lambda field: (row.text(field),)
    chosen, rejected = (tuple(read(field)) for field in ("chosen", "rejected"))
    subset, id = row.text("subset"), row.id(index)
    if best_of and subset == TIES and id.partition(":")[0] not in ("ref", "tied"):
        raise InputError(f"{row.where}: a row of {TIES} has an id 'ref:N' or 'tied:N', not '{id}'")
    return BenchmarkRow(id, subset, prompt, chosen, rejected, row.where)
