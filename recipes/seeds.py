"""The README's table: the chain on the miniature over several seeds, with two ablations.

    python recipes/seeds.py --seeds 5 --output_dir runs/seeds

Each seed runs the chain, ICM without consistency on the same preferences (the paper's Figure 10),
and ICM on the word task, which nothing can elicit (Section 4.2). Continues where it was stopped.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from icm_rl.errors import run
from icm_rl.files import write_text
from icm_rl.report.table import seed_result, seeds_table
from icm_rl.settings import parse


@dataclass
class SeedsConfig:
    """The chain over several seeds."""

    seeds: int = field(default=5, metadata={"help": "How many seeds, counted from 0."})
    output_dir: str = field(default="runs/seeds", metadata={"help": "Folder of the runs."})


def main() -> None:
    (config,) = parse([SeedsConfig])
    results = []
    for seed in range(config.seeds):
        folder = Path(config.output_dir) / f"seed-{seed}"
        data, flags = folder / "chain" / "data", ["--seed", str(seed)]
        chain = ["recipes/pipeline.py", "--config", "recipes/configs/miniature.yaml", *flags]
        icm = ["recipes/icm.py", "--config", "recipes/configs/miniature/icm.yaml", *flags]
        free = ["--consistency", "false", "--baselines", "false"]
        _run(*chain, "--run_dir", folder / "chain")
        _run(*icm, "--output_dir", folder / "word", "--data", data / "word_train.jsonl")
        preferences = data / "preferences_train.jsonl"
        _run(*icm, "--output_dir", folder / "no_consistency", "--data", preferences, *free)
        results.append(seed_result(folder))
    table = seeds_table(results)
    write_text(Path(config.output_dir) / "table.md", table + "\n")
    print(table)


def _run(*command: str | Path) -> None:
    words = [sys.executable, *map(str, command)]
    print(f"\n{' '.join(words[1:])}", file=sys.stderr, flush=True)
    subprocess.run(words, check=True)


if __name__ == "__main__":
    run(main)
