"""The chain on the miniature over several seeds, with other numbers of pairs and with ICM's doubts.

    python benchmarks/seeds.py --seeds 5 --jobs 2 --output_dir runs/seeds

Each seed runs the chain; ICM by folds on 48 to 1,536 pairs, and reward models of its labels and of
the gold labels of the same pairs (the paper's Figure 12); ICM on the miniature's colors; and reward
models of the chain's ICM labels by soft targets and without the pairs of which ICM is least sure.
Continues where it was stopped.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from icm_rl.files import write_text
from icm_rl.pipeline import write_preferences
from icm_rl.report.table import NUMBERS_OF_PAIRS, seed_result, seeds_table
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS

Command = list[str | Path]


@dataclass
class SeedsConfig:
    """The chain over several seeds."""

    seeds: Annotated[int, Ge(1)] = field(
        default=5, metadata={"help": "How many seeds, counted from 0."}
    )
    jobs: Annotated[int, Ge(1)] = field(
        default=1, metadata={"help": "Seeds run side by side; they share out the CPU cores."}
    )
    output_dir: str = field(default="runs/seeds", metadata={"help": "Folder of the runs."})


def main() -> None:
    (config,) = parse([SeedsConfig])
    together = [min(config.jobs, config.seeds - seed) for seed in range(config.seeds)]
    cores = [max(1, (os.cpu_count() or 1) // jobs) for jobs in together]
    folders = [Path(config.output_dir) / f"seed-{seed}" for seed in range(config.seeds)]
    with ThreadPoolExecutor(config.jobs) as executor:
        list(executor.map(_run_seed, range(config.seeds), folders, cores))
    table = seeds_table([seed_result(folder) for folder in folders])
    write_text(Path(config.output_dir) / "table.md", table + "\n")
    print(table)


def _run_seed(seed: int, folder: Path, cores: int) -> None:
    flags: Command = ["--seed", str(seed)]
    chain: Command = ["recipes/pipeline.py", "--config", "recipes/configs/miniature.yaml", *flags]
    _run([*chain, "--run_dir", folder / "chain"], f"seed {seed}", cores)
    data = folder / "chain" / "data"
    colors = ["--data", data / "colors.jsonl", "--output_dir", folder / "colors", *flags]
    _run(_recipe("icm", "colors", *colors), f"seed {seed}", cores)
    for command in (*_doubts(folder, flags), *_pairs(folder, flags)):
        _run(command, f"seed {seed}", cores)


def _doubts(folder: Path, flags: Command) -> Iterator[Command]:
    """Reward models that heed how sure ICM is of each label."""
    preferences = folder / "chain" / "icm" / "preferences.jsonl"
    for name, settings in {
        "soft": ["--soft_targets"],
        "sure": ["--drop_least_sure", "0.1"],
    }.items():
        yield from _reward_model(folder / name, preferences, folder, [*settings, *flags])


def _pairs(folder: Path, flags: Command) -> Iterator[Command]:
    """ICM by folds on so many pairs, and a reward model of its labels and one of gold labels."""
    data = folder / "chain" / "data" / "preferences_5000.jsonl"
    for count in NUMBERS_OF_PAIRS:
        own = folder / f"pairs-{count}"
        write_preferences(TASKS["preferences"].load(data, count), own)
        limited: Command = ["--data", data, "--limit", str(count), "--output_dir", own / "icm"]
        yield _recipe("icm", "folds", *limited, *flags)
        for name, preferences in {
            "reward-icm": own / "icm" / "preferences.jsonl",
            "reward-gold": own / "preferences_gold.jsonl",
        }.items():
            yield from _reward_model(own / name, preferences, folder, flags)


def _reward_model(
    output_dir: Path, preferences: Path, folder: Path, flags: Command
) -> Iterator[Command]:
    """A reward model, and its score on the benchmark of the seed's chain."""
    own = ["--preferences", preferences, "--output_dir", output_dir]
    yield _recipe("reward", "reward", *own, *flags)
    scored = output_dir.with_name(f"{output_dir.name}_scored")
    benchmark = folder / "chain" / "data" / "benchmark.jsonl"
    model: Command = ["--reward_model", output_dir, "--benchmark", benchmark]
    yield ["eval/rewardbench.py", *model, "--output_dir", scored]


def _recipe(recipe: str, config: str, *flags: str | Path) -> Command:
    path = f"recipes/configs/miniature/{config}.yaml"
    return [f"recipes/{recipe}.py", "--config", path, *flags]


def _run(command: Command, name: str, cores: int) -> None:
    """Runs a recipe on so many cores and passes its lines on under its name."""
    words = list(map(str, command))
    print(f"{name} | {' '.join(words)}", file=sys.stderr, flush=True)
    child = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(cores)},
    )
    for line in child.stdout:
        print(f"{name} | {line}", end="", file=sys.stderr, flush=True)
    if child.wait():
        raise SystemExit(child.returncode)


if __name__ == "__main__":
    run(main)
