"""The results of the chain over several seeds, as a Markdown table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from icm_rl.files import read_json

NUMBERS_OF_PAIRS = (48, 96, 384, 1536)
MOST_PAIRS = max(NUMBERS_OF_PAIRS)

_COLUMNS = {
    "zero-shot": "icm.zero_shot_accuracy",
    "zero-shot, made consistent": "icm.consistent_zero_shot_accuracy",
    "random many-shot": "icm.random_many_shot_accuracy",
    "human labels": "icm.human_label_accuracy",
    "golden many-shot": "icm.golden_many_shot_accuracy",
    "**ICM labels**": "icm.label_accuracy",
    "ICM on *colors*": "colors.label_accuracy",
    "golden many-shot on *colors*": "colors.golden_many_shot_accuracy",
    "reward model, human": "reward_model.human.score",
    "reward model, gold": "reward_model.gold.score",
    "**reward model, ICM**": "reward_model.icm.score",
    "reward model, gold, Chat Hard": "reward_model.gold.sections.Chat Hard",
    "reward model, ICM, Chat Hard": "reward_model.icm.sections.Chat Hard",
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
    **{
        name.format(count): key.format(count)
        for count in NUMBERS_OF_PAIRS
        for name, key in {
            "{:,} pairs: ICM labels by folds": "pairs-{}/icm.label_accuracy",
            "{:,} pairs: reward model, ICM": "pairs-{}/reward-icm_scored.score",
            "{:,} pairs: reward model, gold": "pairs-{}/reward-gold_scored.score",
        }.items()
    },
    f"{MOST_PAIRS:,} pairs: labels by the chain's reward model": "spread/labels.label_accuracy",
    f"{MOST_PAIRS:,} pairs: reward model of these": "spread/reward_scored.score",
}
_BESIDE = (
    *("colors", "soft", "soft_scored", "sure", "sure_scored"),
    *("spread/labels", "spread/reward_scored"),
    *(
        f"pairs-{count}/{name}"
        for count in NUMBERS_OF_PAIRS
        for name in ("icm", "reward-icm_scored", "reward-gold_scored")
    ),
)
_PLAIN = ("score", "Chat Hard", "reference_reward")
"""How the keys end whose figures are printed as they are; all others are shares, in percent."""


def seed_result(folder: Path) -> dict[str, Any]:
    """A seed's report with the metrics of the runs beside the chain."""
    beside = {name: read_json(folder / name / "metrics.json") for name in _BESIDE}
    return read_json(folder / "chain" / "report.json") | beside


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
