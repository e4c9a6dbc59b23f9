"""The results of the chain over several seeds, as a Markdown table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from icm_rl.files import read_json

_COLUMNS = {
    "zero-shot": "icm.zero_shot_accuracy",
    "zero-shot, made consistent": "icm.consistent_zero_shot_accuracy",
    "random many-shot": "icm.random_many_shot_accuracy",
    "human labels": "icm.human_label_accuracy",
    "golden many-shot": "icm.golden_many_shot_accuracy",
    "**ICM labels**": "icm.label_accuracy",
    "ICM, no consistency, 96 pairs": "no_consistency.label_accuracy",
    "contradictory, no consistency, 96 pairs": "no_consistency.contradictory",
    "ICM, fixed order, 96 pairs": "fixed.label_accuracy",
    "golden many-shot, 96 pairs": "fixed.golden_many_shot_accuracy",
    "ICM by folds": "folds.label_accuracy",
    "ICM on *facts*": "facts.label_accuracy",
    "golden many-shot on *facts*": "facts.golden_many_shot_accuracy",
    "ICM on *solutions*": "solutions.label_accuracy",
    "golden many-shot on *solutions*": "solutions.golden_many_shot_accuracy",
    "ICM on *colors*": "colors.label_accuracy",
    "golden many-shot on *colors*": "colors.golden_many_shot_accuracy",
    "ICM on *word*": "word.label_accuracy",
    "golden many-shot on *word*": "word.golden_many_shot_accuracy",
    "fine-tuned by gold labels on *word*": "word_tuned.eval_accuracy",
    "reward model, human": "reward_model.human.score",
    "reward model, gold": "reward_model.gold.score",
    "**reward model, ICM**": "reward_model.icm.score",
    "reward model, ICM, soft targets": "soft_scored.score",
    "reward model, ICM, least sure tenth dropped": "sure_scored.score",
    "calibration error, ICM": "reward_model.icm.calibration_error",
    "calibration error, ICM, soft targets": "soft.eval_calibration_error",
    "calibration error, ICM, least sure tenth dropped": "sure.eval_calibration_error",
    "policy before: right": "policy.before.gold_rate",
    "**policy after: right**": "policy.after.gold_rate",
    "policy before: reference reward": "policy.before.reference_reward",
    "**policy after: reference reward**": "policy.after.reference_reward",
    "**win rate**": "policy.win_rate",
}
_BESIDE = (
    *("word", "word_tuned", "fixed", "folds", "facts", "solutions", "colors"),
    *("soft", "soft_scored", "sure", "sure_scored"),
)
_PLAIN = ("score", "reference_reward")
"""How the keys end whose figures are printed as they are; all others are shares, in percent."""


def seed_result(folder: Path) -> dict[str, Any]:
    """A seed's report with the metrics of the runs beside the chain."""
    free = read_json(folder / "no_consistency" / "metrics.json")
    contradictory = free["pairs_dropped"] / (free["pairs"] + free["pairs_dropped"])
    return {
        **read_json(folder / "chain" / "report.json"),
        "no_consistency": free | {"contradictory": contradictory},
        **{name: read_json(folder / name / "metrics.json") for name in _BESIDE},
    }


def seeds_table(results: Sequence[Mapping[str, Any]]) -> str:
    """One row a figure: each seed's, then mean and standard deviation; shares in percent."""
    seeds = range(len(results))
    lines = [
        "| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean ± sd |",
        "|---|" + "---|" * (len(results) + 1),
    ]
    for name, key in _COLUMNS.items():
        scale = 1 if key.endswith(_PLAIN) else 100
        values = [scale * _value(result, key) for result in results]
        digits = 2 if key.endswith("reference_reward") else 1
        cells = [*(f"{value:.{digits}f}" for value in values), mean_and_deviation(values, digits)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """The mean and, of two values or more, the sample standard deviation."""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def _value(result: Mapping[str, Any], key: str) -> float:
    found: Any = result
    for part in key.split("."):
        found = found[part]
    return float(found)
