"""Gathers a finished run's figures under stable keys.

``report.json`` holds, each a number but for ``rl``, ``label_source`` and ``icm.method``:

- ``icm.method`` and ``icm.method_summary``: how the examples were labeled;
  ``icm.zero_shot_accuracy``, ``icm.consistent_zero_shot_accuracy`` (the same after Algorithm 4),
  ``icm.golden_many_shot_accuracy``, ``icm.random_many_shot_accuracy``,
  ``icm.human_label_accuracy``, ``icm.label_accuracy``: shares of examples labeled right, 0–1;
  ``icm.signals``: what the model says of them without gold labels; ``icm.forecast``: how right
  they are, forecast from these, 0–1, with its 90 % interval and a verdict;
  ``icm.confusion``: how many of each gold label, or grade, got which, where there are over two;
- ``reward_model.{icm,gold,…}.score``, ``.sections`` and ``.subsets``: RewardBench accuracies,
  0–100, with their 95 % ``.intervals``; ``.by_length``, accuracy by the chosen answer's length;
  ``.accuracy``, ``.calibration_error`` on held-out pairs, 0–1;
- ``judge``: the same accuracies of the base model as a zero-shot judge, asked in both orders, a row
  whose orders disagree counting half; ``judge.orders_agree``, 0–1, and under
  ``judge.more_confident_order`` the accuracies where the more confident order decides;
- ``policy.{before,after}.gold_rate``: share of answers that the rule accepts, 0–1;
  ``.reference_reward``: mean reward by the reference reward model; ``.length``: words an answer;
  each also by section under ``policy.sections`` and with its 95 % interval under
  ``policy.intervals``; ``.refused_harmful`` and ``.refused_harmless``, shares of such prompts, 0–1;
  ``.distinct_2``: different pairs of neighboring words, as a share of all, 0–1;
- ``policy.win_rate``: share of prompts on which the reference reward model prefers the answer
  after training, a tie counting half, 0–1; ``policy.length_controlled_win_rate``;
- ``audit.agreement``: share of a random sample of labels with which a person agrees, 0–1, with
  ``.answered``, ``.agreed`` and the 95 % ``.interval``;
- ``label_source`` and ``rl``: by whose labels' reward model the policy was trained, and how;
- ``seconds.{icm,reward_model,ppo,eval,total}``: wall-clock time (``grpo`` where that was ``rl``),
  and where a run had these stages ``.responses`` and ``.other_labels``;
- ``peak_memory``, under the same keys but ``total``: the most that a process held, in GiB.

What a run does not have (gold labels, a rule, an audit) is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_rl.files import read_json
from icm_rl.pipeline import policy_folders
from icm_rl.report.audit import read_audit, run_id

_ICM = (
    "method",
    "method_summary",
    "examples",
    "gold_labels",
    "pools",
    "utility",
    "inconsistencies",
    "label_shares",
    "confusion",
    "surface",
    "signals",
    "forecast",
    "label_accuracy",
    "human_label_accuracy",
    "zero_shot_accuracy",
    "consistent_zero_shot_accuracy",
    "random_many_shot_accuracy",
    "human_many_shot_accuracy",
    "icm_many_shot_accuracy",
    "golden_many_shot_accuracy",
)

_SCORED = ("score", "sections", "subsets", "intervals", "by_length")
_TRAINED = ("accuracy", "calibration_error", "reliability")


def collect(folder: str | Path, rl: str, label_source: str = "icm") -> dict[str, Any]:
    """The report of a finished run.

    Args:
        folder: The run's folder.
        rl: How the policy was trained, ``ppo`` or ``grpo``.
        label_source: By whose labels' reward model.

    Raises:
        InputError: A stage's metrics are missing, or ``audit.json`` is of other labels.
    """
    folder = Path(folder)
    icm = read_json(folder / "icm" / "metrics.json")
    stages = read_json(folder / "stages.json")
    trained = [name.removeprefix("reward/") for name in stages if name.startswith("reward/")]
    reward_models = {}
    for name in trained:
        if (folder / "rewardbench" / name / "metrics.json").exists():
            scored = read_json(folder / "rewardbench" / name / "metrics.json")
            learned = read_json(folder / "reward" / name / "metrics.json")
            reward_models[name] = {
                **{key: scored[key] for key in _SCORED if key in scored},
                "pairs": learned["pairs"],
                **{key: learned[f"eval_{key}"] for key in _TRAINED if f"eval_{key}" in learned},
            }
    judged = read_json(folder / "rewardbench" / "judge" / "metrics.json")
    training, scoring = policy_folders(rl, label_source)
    parts = {
        "responses": ("responses/",),
        "icm": ("icm",),
        "other_labels": ("labels/",),
        "reward_model": ("reward/",),
        rl: (training,),
        "eval": ("rewardbench/", scoring),
    }
    took = {part: of for part, names in parts.items() if (of := _of_part(stages, names))}
    times = {part: round(sum(stage["seconds"] for stage in of), 2) for part, of in took.items()}
    memory = {
        part: max(stage["peak_memory"] for stage in of)
        for part, of in took.items()
        if all("peak_memory" in stage for stage in of)
    }
    audit = {}
    if (folder / "audit.json").exists():
        run = run_id(folder / "icm" / "labels.jsonl")
        audit = {"audit": read_audit(folder / "audit.json", run)}
    return {
        "rl": rl,
        "label_source": label_source,
        "icm": {name: icm[name] for name in _ICM if icm.get(name) is not None},
        "reward_model": reward_models,
        "judge": {key: judged[key] for key in _SCORED} | judged["judge"],
        "policy": _policy(read_json(folder / scoring / "metrics.json")),
        **audit,
        "seconds": {**times, "total": round(sum(times.values()), 2)},
        "peak_memory": memory,
    }


def _policy(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The last policy and the baseline, by the first reward model."""
    model, last = metrics["reference_reward_models"][0], list(metrics["policies"])[-1]
    report: dict[str, Any] = {"prompts": metrics["prompts"], "sections": {}, "intervals": {}}
    for role, name in (("before", metrics["baseline"]), ("after", last)):
        found = metrics["policies"][name]
        tables = {"reference_reward": found["reward"][model], "length": found["length"]}
        if "gold_rate" in found:
            tables["gold_rate"] = found["gold_rate"]
        refused = {f"refused_{kind}": of["rate"] for kind, of in found["refusal_rate"].items()}
        report[role] = {key: table["mean"] for key, table in tables.items()} | refused
        report[role] |= {key: found[key] for key in ("distinct_2",) if key in found}
        report["sections"][role] = {key: table["sections"] for key, table in tables.items()}
        report["intervals"][role] = {key: table["interval"] for key, table in tables.items()}
    found = metrics["policies"][last]
    won = found["win_rate"][model]
    report["win_rate"] = won["mean"]
    report["length_controlled_win_rate"] = found["length_controlled_win_rate"][model]
    report["sections"]["win_rate"] = won["sections"]
    report["intervals"]["win_rate"] = won["interval"]
    return report


def _of_part(stages: Mapping[str, Any], folders: Sequence[str]) -> list[Mapping[str, Any]]:
    """The stages in a folder of these names, or below one whose name ends in a slash."""
    return [
        stage
        for name, stage in stages.items()
        if any(name.startswith(f) if f.endswith("/") else name == f for f in folders)
    ]
