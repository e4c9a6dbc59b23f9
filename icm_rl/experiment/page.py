"""An experiment as a page: its tables, bars as in the paper's Figure 3, and the frontier."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from icm_rl.experiment.summary import Estimate, Line, frontier
from icm_rl.report import charts
from icm_rl.report.page import Figure, Page, Section, Table
from icm_rl.report.table import mean_and_deviation

TITLES = {"prompted": "By prompting", "fine_tuned": "By fine-tuning"}

Found = Mapping[str, Mapping[str, Sequence[Line]]]
"""By model and task, a line a method."""


def experiment_page(
    found: Found,
    reference: str,
    seeds: int,
    icm: Sequence[str],
    better: Mapping[str, Mapping[str, Sequence[str]]],
) -> Page:
    """The page of an experiment.

    Args:
        found: What was found.
        reference: The method that the others are compared with.
        seeds: How many seeds there are.
        icm: The methods, and the families of them, that are ICM; they stand out.
        better: By model and task, the methods that beat ICM at no more tokens.
    """
    sections = []
    for model, tasks in found.items():
        ways = list(next(iter(tasks.values()))[0].accuracy)
        figures = []
        for task, lines in tasks.items():
            figures += [
                Figure(
                    charts.ranges(
                        f"{task}, {TITLES[way].lower()}", "percent right", _ranges(lines, way), icm
                    ),
                    "Whose labels teach the model best? Where intervals overlap, see the table's "
                    "differences, which compare the same examples and seeds.",
                )
                for way in ways
            ]
            points = {
                name: [point for point in of_family if point[0] > 0]
                for name, of_family in frontier(lines).items()
            }
            figures.append(
                Figure(
                    charts.frontier(
                        f"{task}, labels by tokens",
                        "tokens computed and trained",
                        "percent of the labels right",
                        {name: of_family for name, of_family in points.items() if of_family},
                        icm,
                    ),
                    "A line a method, a point a setting. Up and to the left is better: more labels "
                    "are right for fewer tokens.",
                )
            )
        said = [
            f"On {task}, by more than two points and at no more tokens, "
            f"{', '.join(names)} beat ICM's best setting."
            if names
            else f"On {task} no other method beats ICM's best setting by more than two points at "
            "no more tokens."
            for task, names in better[model].items()
        ]
        tables = [_table(task, lines, ways, reference) for task, lines in tasks.items()]
        sections.append(Section(model, model, " ".join(said), figures, tables))
    return Page(
        "Ways to label, compared",
        f"Each method labels the training split; then a base model labels the test split, in the "
        f"context of these labels and after fine-tuning on them. Means of {seeds} seeds; intervals "
        "are 95 %, by resampling seeds and the test split's groups. Of the gap between zero-shot "
        "prompting and gold labels each method closes a part. Computed and trained are tokens.",
        sections,
    )


def _ranges(lines: Sequence[Line], way: str) -> charts.Bars:
    """A way's estimates in percent, the best first."""
    ordered = sorted(lines, key=lambda line: -line.accuracy[way].mean)
    return {line.method: _percent(line.accuracy[way]) for line in ordered}


def _percent(of: Estimate) -> tuple[float, Sequence[float]]:
    return 100 * of.mean, [100 * bound for bound in of.interval]


def _table(task: str, lines: Sequence[Line], ways: Sequence[str], reference: str) -> Table:
    head = ["method", "labels right, %"]
    for way in ways:
        head += [f"{TITLES[way].lower()}, %", f"less {reference}", "of the gap, %"]
    head += ["computed", "trained", "seconds"]
    rows = []
    for line in sorted(lines, key=lambda line: -fmean(line.labels)):
        row = [line.method, mean_and_deviation([100 * share for share in line.labels], 1)]
        for way in ways:
            recovered = line.recovered[way]
            row += [
                _ranged(line.accuracy[way]),
                _ranged(line.difference[way], signed=True),
                "" if recovered is None else f"{100 * recovered:.0f}",
            ]
        row += [f"{line.tokens:,.0f}", f"{line.trained:,.0f}", f"{line.seconds:,.0f}"]
        rows.append(row)
    return Table(task, head, rows)


def _ranged(of: Estimate | None, signed: bool = False) -> str:
    if of is None:
        return ""
    value, (low, high) = _percent(of)
    sign = "+" if signed else ""
    return f"{value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"
