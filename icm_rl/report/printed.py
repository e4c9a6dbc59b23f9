"""The tables that end a stage and a run."""

from collections.abc import Mapping
from typing import Any

from icm_rl.report.names import LABEL_FIGURES


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """A stage's metrics as lines of text, one each; parts stand behind each other."""
    width = max(map(len, metrics))
    return "\n".join(f"{name:>{width}}  {_shown(value)}" for name, value in metrics.items())


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_part(of_name)}" for name, of_name in value.items())
    return str(round(value, 4) if isinstance(value, float) else value)


def _part(value: Any) -> str:
    return f"({_shown(value)})" if isinstance(value, Mapping) else _shown(value)


def results_table(report: Mapping[str, Any]) -> str:
    """The run's results as lines of text."""
    lines = ["", "ICM labels, share right"]
    for key, name in LABEL_FIGURES.items():
        if key in report["icm"]:
            lines.append(f"  {name:<28}{100 * report['icm'][key]:6.1f} %")
    lines.append("Reward models, score on the benchmark")
    for name, model in report["reward_model"].items():
        lines.append(_scored(f"trained on {name} labels", model))
    lines.append(_scored("the base model as judge", report["judge"]["more_confident_order"]))
    lines.append("Policy on the benchmark's prompts  before     after")
    for key, name in (
        ("gold_rate", "accepted by the rule"),
        ("reference_reward", "reference reward"),
        ("length", "words an answer"),
        ("distinct_2", "distinct-2"),
    ):
        if key in report["policy"]["before"]:
            before, after = (report["policy"][role][key] for role in ("before", "after"))
            lines.append(f"  {name:<28}{before:11.3f}{after:10.3f}")
    lines.append(f"  {'win rate':<28}{'':11}{report['policy']['win_rate']:10.3f}")
    times = "  ".join(f"{name} {value:.0f} s" for name, value in report["seconds"].items())
    lines.append(f"Time  {times}")
    return "\n".join(lines)


def _scored(name: str, model: Mapping[str, Any]) -> str:
    sections = "  ".join(f"{k} {v:.1f}" for k, v in model["sections"].items())
    return f"  {name:<28}{model['score']:6.1f}    {sections}"
