"""RewardBench (Lambert et al. 2024): its rows, its sections, its score.

The counts, the sections and the weights are those of the public repository allenai/reward-bench.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from icm_rl.data import Row, Source
from icm_rl.errors import InputError

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
"""The subsets of each section and their official weights."""

_SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}


@dataclass(frozen=True)
class BenchmarkRow:
    """One prompt with a chosen and a rejected answer."""

    id: str
    subset: str
    prompt: str
    chosen: str
    rejected: str

    @property
    def section(self) -> str:
        return _SECTION_OF[self.subset]


def load_benchmark(source: str | Path) -> list[BenchmarkRow]:
    """Reads the benchmark from a file in RewardBench's columns, or its ``filtered`` split.

    Args:
        source: A JSON or JSON-lines file, or the Hub name ``allenai/reward-bench``.

    Raises:
        InputError: The file or a row is bad, or a subset is not one of RewardBench's.
    """
    rows = Source(str(source), split="filtered").rows()
    return [_row(row, index) for index, row in enumerate(rows)]


def _row(row: Row, index: int) -> BenchmarkRow:
    subset = row.text("subset")
    if subset not in _SECTION_OF:
        raise InputError(f"{row.where}: '{subset}' is none of RewardBench's subsets")
    texts = (row.text(name) for name in ("prompt", "chosen", "rejected"))
    return BenchmarkRow(row.id(index), subset, *texts)


def section_scores(by_subset: Mapping[str, float]) -> dict[str, float]:
    """Each section's mean over its subsets, weighted by the official counts.

    A section counts the subsets that are there; one without any is left out.
    """
    scores = {}
    for section, weights in SECTIONS.items():
        present = {subset: weight for subset, weight in weights.items() if subset in by_subset}
        if present:
            total = sum(by_subset[subset] * weight for subset, weight in present.items())
            scores[section] = total / sum(present.values())
    return scores


def subset_means(rows: Sequence[BenchmarkRow], values: Sequence[float]) -> dict[str, float]:
    """The mean of the rows' values by subset, in the benchmark's order."""
    found: dict[str, list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        found.setdefault(row.subset, []).append(value)
    return {
        subset: sum(found[subset]) / len(found[subset]) for subset in _SECTION_OF if subset in found
    }
