"""Several runs on one page."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from icm_rl.report import charts
from icm_rl.report.page import Figure, Page, Section, Table
from icm_rl.report.sections import model_bars, policy_bars
from icm_rl.report.table import mean_and_deviation

Run = tuple[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]
"""A run's name, its report, and its updates in RL."""


def comparison_page(runs: Sequence[Run]) -> Page:
    """Several runs side by side; runs of one name are its seeds.

    Args:
        runs: The runs, in the order in which they are shown.
    """
    names = list(dict.fromkeys(name for name, _, _ in runs))
    figures: dict[str, list[Figure]] = {"model": [], "training": [], "policy": []}

    def by_section(get: Callable[[Mapping[str, Any]], charts.Bars]) -> dict[str, charts.Bars]:
        groups = {}
        for name in names:
            found = [get(report) for other, report, _ in runs if other == name]
            if len(found) > 1:
                found = [{s: (fmean(of[s][0] for of in found), None) for s in found[0]}]
            groups[name] = found[0]
        return groups

    def of_model(report: Mapping[str, Any]) -> charts.Bars:
        return model_bars(report["reward_model"][report["label_source"]])

    figures["model"].append(
        Figure(
            charts.grouped_bars("Reward models on the benchmark", "percent", by_section(of_model)),
            "By whose labels is a reward model best, and in which section? Where the 95 % "
            "intervals of single runs overlap, these rows cannot tell.",
        )
    )
    for key, title, unit in (
        ("objective/scores", "Score by the own reward model", "score"),
        ("objective/kl", "KL to the base model", "nats an answer"),
    ):
        series = {}
        for name in names:
            own = [updates for other, _, updates in runs if other == name]
            for number, updates in enumerate(own, 1):
                label = name if len(own) == 1 else f"{name}, {number}"
                series[label] = [(u["episode"], u[key]) for u in updates if key in u]
        figures["training"].append(
            Figure(
                charts.lines(title, "episode", unit, series),
                "Each run's score is by its own reward model: compare the curves' shapes, not "
                "their heights."
                if key == "objective/scores"
                else "Of two runs as good, the one of lower KL moved less.",
            )
        )
    for key, title, unit in (
        ("gold_rate", "Accepted by the rule", "share accepted"),
        ("reference_reward", "Reward by the reference reward model", "mean reward"),
    ):
        if all(key in report["policy"]["after"] for _, report, _ in runs):

            def of_policy(report: Mapping[str, Any], key: str = key) -> charts.Bars:
                return policy_bars(report["policy"], "after", key)

            figures["policy"].append(
                Figure(
                    charts.grouped_bars(f"{title}, after training", unit, by_section(of_policy)),
                    "Which assistant ends higher, and in which section?",
                )
            )
    compared = [(name, _compared(report, updates)) for name, report, updates in runs]
    rows = []
    for figure in dict.fromkeys(figure for _, values in compared for figure in values):
        cells = []
        for run in names:
            found = [values.get(figure) for name, values in compared if name == run]
            known = [value for value in found if value is not None]
            cells.append(mean_and_deviation(known, 3) if known else "")
        if any(cells):
            rows.append([figure, *cells])
    return Page(
        "Runs compared",
        f"{', '.join(names)}: the same stages with other labels, methods or seeds. Runs of one "
        "name are its seeds: their mean, in the table with the standard deviation.",
        [
            Section(
                "figures",
                "Figures",
                "A difference that is smaller than the deviation over seeds is none.",
                (),
                [Table("All runs", ["", *names], rows)],
            ),
            Section(
                "reward-models",
                "Reward models",
                "Whose labels make the best judge?",
                figures["model"],
            ),
            Section(
                "training",
                "Training",
                "Which run learns faster, and how far does it go for it?",
                figures["training"],
            ),
            Section(
                "policy",
                "Policies",
                "All policies are judged by the same rules and the same kind of reference model.",
                figures["policy"],
            ),
        ],
    )


def _compared(
    report: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]
) -> dict[str, float | None]:
    """The figures that a comparison's table shows of a run; None where it has none."""
    icm, policy, models = report["icm"], report["policy"], report["reward_model"]
    before, after = policy["before"], policy["after"]
    return {
        "zero-shot prompting right, 0–1": icm.get("zero_shot_accuracy"),
        "many-shot prompting right, gold labels, 0–1": icm.get("golden_many_shot_accuracy"),
        "ICM labels right, 0–1": icm.get("label_accuracy"),
        **{
            f"reward model of the {name} labels, score on the benchmark": model["score"]
            for name, model in models.items()
        },
        "policy: accepted before, 0–1": before.get("gold_rate"),
        "policy: accepted after, 0–1": after.get("gold_rate"),
        "policy: reference reward before": before["reference_reward"],
        "policy: reference reward after": after["reference_reward"],
        "policy: win rate against the base model, 0–1": policy["win_rate"],
        "policy: length-controlled win rate, 0–1": policy["length_controlled_win_rate"],
        "policy: words an answer before": before["length"],
        "policy: words an answer after": after["length"],
        "policy: distinct-2 before, 0–1": before.get("distinct_2"),
        "policy: distinct-2 after, 0–1": after.get("distinct_2"),
        "policy: KL to the base model at the end, nats an answer": (
            updates[-1].get("objective/kl") if updates else None
        ),
        **{f"seconds, {stage}": seconds for stage, seconds in report["seconds"].items()},
        "peak memory of a process, GiB": max(report.get("peak_memory", {}).values(), default=None),
    }
