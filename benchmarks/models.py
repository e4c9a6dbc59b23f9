"""What a stronger base model gains, and what one gains from having seen the claims judged before.

    python benchmarks/models.py

Pretrains the miniature in fewer layers, and on a corpus that judges nothing of the test split, an
hour each; runs the experiment of ``configs/miniature/models.yaml``; and trains reward models of
each model's own ICM labels and of gold labels of the same pairs. Writes a table to OUTPUT_DIR.
Continues where it was stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from cells import SALIENT, Cells, experiment
from stages import configured, reward_model_score, run_recipe

from icm_rl.experiment.config import short_names
from icm_rl.files import write_text
from icm_rl.pipeline import write_preferences
from icm_rl.report.table import mean_and_deviation
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS

PRETRAINED = {
    "runs/miniature-4": ("--layers", "4"),
    "runs/miniature-6": ("--layers", "6"),
    "runs/miniature-unjudged": ("--unjudged", "test"),
}


@dataclass
class ModelsConfig:
    """Several base models."""

    output_dir: str = field(
        default="runs/findings/models", metadata={"help": "Folder of the labels and the table."}
    )


def main() -> None:
    (config,) = parse([ModelsConfig])
    folder = Path(config.output_dir)
    for pretrained, flags in PRETRAINED.items():
        run_recipe("recipes/miniature.py", *flags, "--output_dir", pretrained)
    by_model = experiment("miniature/models")
    names = short_names(list(by_model))
    lines = [
        "| base model | zero-shot | ICM | golden many-shot | RewardBench: ICM labels | gold labels "
        "| facts of the test split: zero-shot | ICM | golden many-shot |",
        "|---" * 9 + "|",
    ]
    for model, cells in by_model.items():
        own = folder / names[model].replace("/", "-")
        data = Path(str(cells.config.tasks["preferences"]["data"]))
        found = [*_elicited(cells), *_rewarded(model, data, own), *_seen(cells)]
        lines.append(f"| {names[model]} | {' | '.join(found)} |")
    text = "\n".join(lines)
    write_text(folder / "models.md", text + "\n")
    print(text)


def _elicited(cells: Cells) -> list[str]:
    """Right labels, and golden many-shot on the test split, each the mean over tasks."""
    labels = [
        [fmean(of_seed) for of_seed in zip(*of_tasks, strict=True)]
        for of_tasks in (
            [cells.labels(task, method) for task in SALIENT] for method in ("zero_shot", "search")
        )
    ]
    return _told(*labels, cells.tested(SALIENT, "golden", "prompted"))


def _seen(cells: Cells) -> list[str]:
    """The same of the facts of the test split, which one of the models has never seen judged."""
    task = "facts of the test split"
    labels = (cells.labels(task, method) for method in ("zero_shot", "search"))
    return _told(*labels, cells.tested(["facts"], "golden", "prompted"))


def _told(*figures: Sequence[float]) -> list[str]:
    return [mean_and_deviation(of_seeds, 1) for of_seeds in figures]


def _rewarded(model: str, data: Path, folder: Path) -> list[str]:
    """RewardBench scores of reward models from this model, by its ICM labels and by gold labels."""
    own = ("--model", model, "--data", data, "--output_dir", folder / "icm")
    run_recipe("recipes/icm.py", *configured("miniature/icm"), *own)
    write_preferences(TASKS["preferences"].load(data), folder)
    scores = []
    for name, preferences in {
        "reward-icm": folder / "icm" / "preferences.jsonl",
        "reward-gold": folder / "preferences_gold.jsonl",
    }.items():
        benchmark = data.with_name("benchmark.jsonl")
        flags = ("--model_name_or_path", model)
        scores.append(reward_model_score(preferences, folder / name, benchmark, *flags))
    return [f"{score:.1f}" for score in scores]


if __name__ == "__main__":
    run(main)
