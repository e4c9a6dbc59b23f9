"""The chain on the miniature over several seeds, with other numbers of pairs and with ICM's doubts.

    python benchmarks/seeds.py --seeds 5 --output_dir runs/seeds

Runs the chain of each seed; then of each ICM by folds on 48 to 1,536 pairs, and reward models of
its labels and of the gold labels of the same pairs (the paper's Figure 12), and of those that the
chain's reward model gives 1,536 pairs; ICM on the miniature's colors; and reward models of the
chain's ICM labels by soft targets and without the pairs of which ICM is least sure. Continues where
it was stopped.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from annotated_types import Ge
from stages import configured, reward_model_score, run_recipe

from icm_rl.files import write_text
from icm_rl.pipeline import write_preferences
from icm_rl.report.table import MOST_PAIRS, NUMBERS_OF_PAIRS, seed_result, seeds_table
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.shipped import shipped
from icm_rl.tasks import TASKS


@dataclass
class SeedsConfig:
    """The chain over several seeds."""

    seeds: Annotated[int, Ge(1)] = field(
        default=5, metadata={"help": "How many seeds, counted from 0."}
    )
    output_dir: str = field(default="runs/seeds", metadata={"help": "Folder of the runs."})


def main() -> None:
    (config,) = parse([SeedsConfig])
    folders = [Path(config.output_dir) / f"seed-{seed}" for seed in range(config.seeds)]
    for seed, folder in enumerate(folders):
        chain = ("--config", shipped("recipes/configs/miniature.yaml"), "--seed", seed)
        run_recipe("recipes/pipeline.py", *chain, "--run_dir", folder / "chain")
    for seed, folder in enumerate(folders):
        data = folder / "chain" / "data" / "colors.jsonl"
        own = ("--data", data, "--output_dir", folder / "colors", "--seed", seed)
        run_recipe("recipes/icm.py", *configured("miniature/colors"), *own)
        _doubts(folder, seed)
        _pairs(folder, seed)
        _spread(folder, seed)
    table = seeds_table([seed_result(folder) for folder in folders])
    write_text(Path(config.output_dir) / "table.md", table + "\n")
    print(table)


def _doubts(folder: Path, seed: int) -> None:
    """Reward models that heed how sure ICM is of each label."""
    preferences = folder / "chain" / "icm" / "preferences.jsonl"
    for name, settings in {
        "soft": ("--soft_targets",),
        "sure": ("--drop_least_sure", 0.1),
    }.items():
        flags = (*settings, "--seed", seed)
        reward_model_score(preferences, folder / name, _benchmark(folder), *flags)


def _pairs(folder: Path, seed: int) -> None:
    """ICM by folds on so many pairs, and a reward model of its labels and one of gold labels."""
    data = folder / "chain" / "data" / "preferences_5000.jsonl"
    for count in NUMBERS_OF_PAIRS:
        own = folder / f"pairs-{count}"
        write_preferences(TASKS["preferences"].load(data, count), own)
        limited = ("--data", data, "--limit", count, "--output_dir", own / "icm", "--seed", seed)
        run_recipe("recipes/icm.py", *configured("miniature/folds"), *limited)
        for name, preferences in {
            "reward-icm": own / "icm" / "preferences.jsonl",
            "reward-gold": own / "preferences_gold.jsonl",
        }.items():
            reward_model_score(preferences, own / name, _benchmark(folder), "--seed", seed)


def _spread(folder: Path, seed: int) -> None:
    """Many pairs labeled by the chain's reward model of ICM's labels, and one that learns them."""
    data, own = folder / "chain" / "data" / "preferences_5000.jsonl", folder / "spread"
    by = ("--reward_model", folder / "chain" / "reward" / "icm", "--limit", MOST_PAIRS)
    run_recipe("recipes/spread.py", *by, "--data", data, "--output_dir", own / "labels")
    preferences = own / "labels" / "preferences.jsonl"
    reward_model_score(preferences, own / "reward", _benchmark(folder), "--seed", seed)


def _benchmark(folder: Path) -> Path:
    """The benchmark of a seed's chain."""
    return folder / "chain" / "data" / "benchmark.jsonl"


if __name__ == "__main__":
    run(main)
