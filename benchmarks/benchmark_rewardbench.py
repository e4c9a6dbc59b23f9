"""eval/rewardbench.py against the rewardbench package from PyPI.

    make .venv-rewardbench/ready
    python benchmarks/benchmark_rewardbench.py --reward_model runs/reward --benchmark FILE

Both score the same rows by the same reward model in float32, the package in batches of 8, its
default. They take turns, each run a process of its own. Seconds are those of tokenizing and
scoring, without loading.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated

from annotated_types import Ge

from icm_rl.data import read_rows
from icm_rl.errors import InputError
from icm_rl.files import read_json
from icm_rl.progress import Progress
from icm_rl.runner import run
from icm_rl.settings import parse, require_given


@dataclass
class BenchmarkConfig:
    """What both score, and how often."""

    reward_model: str = field(default="", metadata={"help": "A reward model's directory."})
    benchmark: str = field(
        default="", metadata={"help": "A JSON-lines file in RewardBench's columns."}
    )
    repeats: Annotated[int, Ge(1)] = field(default=3, metadata={"help": "Runs of each side."})
    package_python: str = field(
        default=".venv-rewardbench/bin/python",
        metadata={"help": "The interpreter of an environment with the rewardbench package."},
    )

    def __post_init__(self) -> None:
        require_given(self, "reward_model", "benchmark")
        if not Path(self.package_python).is_file():
            raise InputError(
                f"{self.package_python}: no such interpreter; run make .venv-rewardbench/ready, or "
                "give --package_python"
            )


def main() -> None:
    (config,) = parse([BenchmarkConfig])
    package, ours = [], []
    progress = Progress("runs", 2 * config.repeats, unit="run")
    with TemporaryDirectory() as temporary:
        for turn in range(config.repeats):
            folder = Path(temporary) / str(turn)
            folder.mkdir()
            for side in (0, 1) if turn % 2 == 0 else (1, 0):
                if side:
                    ours.append(_ours(config, folder))
                else:
                    package.append(_package(config, folder / "found.json"))
                progress.advance()
        scores = read_rows(folder / "ours" / "scores.parquet")
    progress.close()
    rows = len(scores)
    rates = [mean(rows / found["seconds"] for found in side) for side in (package, ours)]
    print("| | rows/s | ratio | rows right |\n|---|---|---|---|")
    right = [
        sum(row["results"] for row in package[0]["rows"]),
        round(sum(row.number("credit") for row in scores)),
    ]
    for name, rate, count in zip(("rewardbench", "icm_rl"), rates, right, strict=True):
        print(f"| {name} | {rate:.2f} | {rate / rates[0]:.2f} | {count} of {rows} |")
    pairs = list(zip(package[0]["rows"], (row.values for row in scores), strict=True))
    same = sum(theirs["results"] == own["credit"] for theirs, own in pairs)
    largest = max(
        abs(theirs[f"scores_{name}"] - own[name][0])
        for theirs, own in pairs
        for name in ("chosen", "rejected")
    )
    print(f"\n{same} of {rows} rows the same; the scores differ by {largest:.1e} at most")


def _package(config: BenchmarkConfig, output: Path) -> dict:
    program = Path(__file__).with_name("rewardbench_package.py")
    _run(config.package_python, program, config.reward_model, config.benchmark, output)
    return read_json(output)


def _ours(config: BenchmarkConfig, folder: Path) -> dict:
    program, output = "eval/rewardbench.py", folder / "ours"
    flags = ("--reward_model", config.reward_model, "--benchmark", config.benchmark)
    _run(sys.executable, program, *flags, "--dtype", "float32", "--output_dir", output)
    return read_json(output / "metrics.json")["time"]


def _run(*command: object) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[1]} failed:\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    run(main)
