"""The README's table: the chain on the miniature over several seeds, with two ablations.

    python benchmarks/seeds.py --seeds 5 --jobs 2 --output_dir runs/seeds

Each seed runs the chain; ICM on the same preferences by folds, and on a quarter of them without
consistency (the paper's Figure 10) and with contexts in one fixed order; ICM and fine-tuning by
gold labels on the word task, whose criterion nothing can elicit (Section 4.2); ICM on the
miniature's facts and solutions, 16 questions of each, and on its colors; and reward models of the
ICM labels by soft targets and without the pairs of which ICM is least sure. Continues where it was
stopped.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from icm_rl.files import write_text
from icm_rl.pipeline import write_preferences
from icm_rl.report.table import seed_result, seeds_table
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS


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
    data, flags = folder / "chain" / "data", ["--seed", str(seed)]
    chain = ["recipes/pipeline.py", "--config", "recipes/configs/miniature.yaml", *flags]
    icm = ["recipes/icm.py", "--config", "recipes/configs/miniature/icm.yaml", *flags]
    preferences = ["--data", data / "preferences_train.jsonl"]
    pairs, questions = ["--limit", "96"], ["--limit", "16", *flags]
    no_consistency = ["--consistency", "false", "--baselines", "false"]
    reward = ["recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml", *flags]
    tuned = [*reward, "--num_train_epochs", "20", "--eval_fraction", "0.25"]
    by_icm = [*reward, "--preferences", folder / "chain" / "icm" / "preferences.jsonl"]
    gold = folder / "word_preferences" / "preferences_gold.jsonl"
    _run([*chain, "--run_dir", folder / "chain"], f"seed {seed}", cores)
    write_preferences(TASKS["preferences"].load(data / "word_train.jsonl"), gold.parent)
    for command in (
        [*icm, "--output_dir", folder / "word", "--data", data / "word_train.jsonl"],
        [*tuned, "--output_dir", folder / "word_tuned", "--preferences", gold],
        [*icm, "--output_dir", folder / "no_consistency", *preferences, *pairs, *no_consistency],
        [*icm, "--output_dir", folder / "fixed", *preferences, *pairs, "--order", "fixed"],
        [*by_icm, "--output_dir", folder / "soft", "--soft_targets"],
        [*by_icm, "--output_dir", folder / "sure", "--drop_least_sure", "0.1"],
        _scored(folder / "soft", data),
        _scored(folder / "sure", data),
        _miniature("folds", folder, *preferences, *flags),
        _miniature("facts", folder, "--data", data / "facts_train.jsonl", *questions),
        _miniature("solutions", folder, "--data", data / "solutions_train.jsonl", *questions),
        _miniature("colors", folder, "--data", data / "colors.jsonl", *flags),
    ):
        _run(command, f"seed {seed}", cores)


def _miniature(name: str, folder: Path, *flags: str | Path) -> list[str | Path]:
    config = f"recipes/configs/miniature/{name}.yaml"
    return ["recipes/icm.py", "--config", config, "--output_dir", folder / name, *flags]


def _scored(model: Path, data: Path) -> list[str | Path]:
    flags = ["--reward_model", model, "--benchmark", data / "benchmark.jsonl"]
    return ["eval/rewardbench.py", *flags, "--output_dir", model.parent / f"{model.name}_scored"]


def _run(command: list[str | Path], name: str, cores: int) -> None:
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
