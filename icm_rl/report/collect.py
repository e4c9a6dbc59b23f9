"""Gathers a finished run's figures under stable keys.

``report.json`` holds, each a number but for ``rl``:

- ``icm.zero_shot_accuracy``, ``icm.consistent_zero_shot_accuracy`` (the same after Algorithm 4),
  ``icm.golden_many_shot_accuracy``, ``icm.random_many_shot_accuracy``,
  ``icm.human_label_accuracy``, ``icm.label_accuracy``: shares of examples labeled right, 0–1;
- ``reward_model.{icm,gold,human}.score`` and ``.sections``: RewardBench accuracies, 0–100;
  ``.accuracy``, ``.calibration_error`` on held-out pairs, 0–1;
- ``policy.{before,after}.gold_rate``: share of answers that the world's rules accept, 0–1;
  ``.reference_reward``: mean reward by the reference reward model; ``.length``: words an answer;
  each also by section under ``policy.sections``;
- ``policy.win_rate``: share of prompts on which the reference reward model prefers the answer
  after training, a tie counting half, 0–1;
- ``rl``: how the policy was trained, ``ppo`` or ``grpo``;
- ``seconds.{icm,reward_model,ppo,eval,total}``: wall-clock time (``grpo`` where that was ``rl``).

What a run does not have (gold labels, a world's rules) is left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icm_rl.files import read_json

_ICM = (
    "examples",
    "pools",
    "utility",
    "inconsistencies",
    "label_shares",
    "label_accuracy",
    "human_label_accuracy",
    "zero_shot_accuracy",
    "consistent_zero_shot_accuracy",
    "random_many_shot_accuracy",
    "human_many_shot_accuracy",
    "icm_many_shot_accuracy",
    "golden_many_shot_accuracy",
)

_TRAINED = ("accuracy", "calibration_error", "reliability")


def collect(folder: str | Path, rl: str) -> dict[str, Any]:
    """The report of a finished run.

    Args:
        folder: The run's folder.
        rl: How the policy was trained, ``ppo`` or ``grpo``.

    Raises:
        InputError: A stage's metrics are missing.
    """
    folder = Path(folder)
    icm = read_json(folder / "icm" / "metrics.json")
    reward_models = {}
    for name in ("icm", "gold", "human"):
        if (folder / "rewardbench" / name / "metrics.json").exists():
            scored = read_json(folder / "rewardbench" / name / "metrics.json")
            trained = read_json(folder / "reward" / name / "metrics.json")
            reward_models[name] = {
                "score": scored["score"],
                "sections": scored["sections"],
                "subsets": scored["subsets"],
                "pairs": trained["pairs"],
                **{name: trained[f"eval_{name}"] for name in _TRAINED if f"eval_{name}" in trained},
            }
    policy = read_json(folder / "policy" / rl / "metrics.json")
    stages = read_json(folder / "stages.json")
    seconds = {name: stage["seconds"] for name, stage in stages.items()}
    evaluation = round(_total(seconds, "rewardbench/") + seconds[f"policy/{rl}"], 2)
    return {
        "rl": rl,
        "icm": {name: icm[name] for name in _ICM if icm.get(name) is not None},
        "reward_model": reward_models,
        "policy": _policy(policy),
        "seconds": {
            "icm": seconds["icm"],
            "reward_model": _total(seconds, "reward/"),
            rl: seconds[rl],
            "eval": evaluation,
            "total": round(
                seconds["icm"] + _total(seconds, "reward/") + seconds[rl] + evaluation, 2
            ),
        },
    }


def _policy(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The last policy and the baseline, by the first reward model."""
    model, last = metrics["reference_reward_models"][0], list(metrics["policies"])[-1]
    report: dict[str, Any] = {"prompts": metrics["prompts"], "sections": {}}
    for role, name in (("before", metrics["baseline"]), ("after", last)):
        found = metrics["policies"][name]
        tables = {"reference_reward": found["reward"][model], "length": found["length"]}
        if "gold_rate" in found:
            tables["gold_rate"] = found["gold_rate"]
        report[role] = {key: table["mean"] for key, table in tables.items()}
        report["sections"][role] = {key: table["sections"] for key, table in tables.items()}
    won = metrics["policies"][last]["win_rate"][model]
    report["win_rate"] = won["mean"]
    report["sections"]["win_rate"] = won["sections"]
    return report


def _total(seconds: Mapping[str, float], prefix: str) -> float:
    return round(sum(value for name, value in seconds.items() if name.startswith(prefix)), 2)
