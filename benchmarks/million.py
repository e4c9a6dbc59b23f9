"""How much memory spreading takes of a million pairs, beside the reward model.

    python benchmarks/million.py

Generates so many pairs and labels them by the code of ``recipes/spread.py``, with a reward model
that answers at once: what is left is reading, writing, and what is held meanwhile.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from icm_rl.files import write_jsonl
from icm_rl.reward.spreading import SpreadConfig, spread
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks.base import Messages
from icm_rl.terminal import say


@dataclass
class MillionConfig:
    """Many pairs, labeled at once."""

    pairs: Annotated[int, Ge(1)] = field(default=1_000_000, metadata={"help": "How many."})
    output_dir: str = field(
        default="runs/million", metadata={"help": "Folder of the pairs and the preferences."}
    )


class AtOnce:
    """Likes the longer answer."""

    def score_groups(self, groups: Sequence[Sequence[Messages]]) -> list[list[float]]:
        return [[float(len(talk[-1]["content"])) for talk in group] for group in groups]


def main() -> None:
    (config,) = parse([MillionConfig])
    folder = Path(config.output_dir)
    data = folder / "pairs.jsonl"
    write_jsonl(data, map(_pair, range(config.pairs)))
    before, start = _peak(), time.monotonic()
    settings = SpreadConfig("at once", data=str(data))
    found = spread(settings, AtOnce(), folder / "spread")
    seconds = time.monotonic() - start
    lines = ["| pairs | seconds | peak before, GiB | peak after, GiB |", "|---" * 4 + "|"]
    lines.append(f"| {found['pairs']:,} | {seconds:.0f} | {before:.2f} | {_peak():.2f} |")
    say("\n".join(lines))


def _pair(number: int) -> dict[str, str]:
    words = " ".join(f"word{number * k % 997}" for k in range(1, 40))
    return {
        "prompt": f"What do you make of number {number}?",
        "response_a": f"{words} {number}",
        "response_b": f"{number} {words}, or so",
    }


def _peak() -> float:
    """The most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    run(main)
