"""The paper's findings about labels, on the miniature: what must be seen, and what is found.

    python benchmarks/findings.py

Runs two experiments (recipes/experiment.py), the searches of ``configs/miniature/findings.yaml``
and of ``hyperparameters.yaml``, and writes tables and a picture to OUTPUT_DIR. Continues where it
was stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from cells import SALIENT, Cells, experiment

from icm_rl.experiment.summary import WAYS
from icm_rl.files import write_text
from icm_rl.report.plots import curves
from icm_rl.report.table import mean_and_deviation
from icm_rl.runner import run
from icm_rl.settings import parse


@dataclass
class FindingsConfig:
    """The paper's findings about labels, on the miniature."""

    output_dir: str = field(
        default="runs/findings", metadata={"help": "Folder of the tables and the picture."}
    )


@dataclass(frozen=True)
class Finding:
    """A row of the table."""

    name: str
    paper: str
    asked: str
    found: str
    seen: bool


def main() -> None:
    (config,) = parse([FindingsConfig])
    folder = Path(config.output_dir)
    (labels,) = experiment("miniature/findings").values()
    findings = _findings_table([make(labels) for make in FINDINGS])
    _write(folder / "findings.md", findings, _labels_table(labels))
    write_text(folder / "iterations.svg", _iterations(labels))
    (changed,) = experiment("miniature/hyperparameters").values()
    _write(folder / "hyperparameters.md", _hyperparameters_table(changed))


def _write(path: Path, *tables: str) -> None:
    text = "\n\n".join(tables)
    write_text(path, text + "\n")
    print(f"\n{text}", flush=True)


def _golden(way: str, cells: Cells) -> Finding:
    icm, golden, human = (
        fmean(cells.tested(SALIENT, method, way)) for method in ("search", "golden", "human")
    )
    return Finding(
        f"ICM against golden and human labels, {_named(way)} (Figures 1, 3)",
        "as good as golden, above human",
        "within 3 points of golden, 8 above human",
        f"{icm:.1f}, golden {golden:.1f}, human {human:.1f}",
        icm >= golden - 3 and icm >= human + 8,
    )


def _perturbed(way: str, cells: Cells) -> Finding:
    both = (cells.tested(SALIENT, method, way) for method in ("search", "perturbed"))
    better = [icm - other for icm, other in zip(*both, strict=True)]
    return Finding(
        f"as many labels wrong, but at random, {_named(way)} (Figure 8)",
        "ICM's always teach substantially more",
        "ICM's labels teach more, by 2 points",
        mean_and_deviation(better, 1),
        fmean(better) >= 2,
    )


def _named(way: str) -> str:
    return way.replace("_", "-")


def _initial(cells: Cells) -> Finding:
    found = {
        name: fmean(fmean(cells.labels(task, f"from {name} labels")) for task in SALIENT)
        for name in ("golden", "wrong")
    }
    return Finding(
        "all golden or all wrong labels at the start (Figure 9)",
        "a moderate drop from wrong ones",
        "at most 5 points apart",
        f"{found['golden']:.1f} and {found['wrong']:.1f} % right",
        abs(found["golden"] - found["wrong"]) <= 5,
    )


def _no_consistency(cells: Cells) -> Finding:
    collapsed = cells.collapsed("preferences", "no consistency")
    spreads = {
        method: fmean(stdev(cells.labels(task, method)) for task in ("facts", "solutions"))
        for method in ("search", "no consistency")
    }
    return Finding(
        "no consistency (Figure 10)",
        "one label for all almost always on Alpaca, rarely on TruthfulQA; more variance",
        "one label for all in most seeds on preferences, larger spread on the others",
        f"{collapsed} of {cells.config.seeds} seeds; "
        f"deviation {spreads['no consistency']:.1f} against {spreads['search']:.1f}",
        collapsed > cells.config.seeds / 2 and spreads["no consistency"] > spreads["search"],
    )


def _centered(cells: Cells) -> Finding:
    collapsed = sum(cells.collapsed(task, "no consistency, centered") for task in SALIENT)
    return Finding(
        "no consistency, `--objective centered`",
        "not tried",
        "no collapse",
        f"{collapsed} of {len(SALIENT) * cells.config.seeds} searches",
        collapsed == 0,
    )


def _word(cells: Cells) -> Finding:
    labels, tested = cells.labels("word", "search"), cells.tested(["word"], "search", "prompted")
    return Finding(
        "a concept that is not salient (Figure 5)",
        "chance",
        "chance",
        f"labels {mean_and_deviation(labels, 1)}, test split {mean_and_deviation(tested, 1)}",
        all(abs(fmean(values) - 50) <= 10 for values in (labels, tested)),
    )


FINDINGS: tuple[Callable[[Cells], Finding], ...] = (
    *(partial(_golden, way) for way in WAYS),
    *(partial(_perturbed, way) for way in WAYS),
    *(_initial, _no_consistency, _centered, _word),
)


def _findings_table(findings: Sequence[Finding]) -> str:
    lines = [
        "| finding | in the paper | what must be seen | found | seen |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.paper} | {row.asked} | {row.found} | "
        f"{'yes' if row.seen else '**no**'} |"
        for row in findings
    ]
    return "\n".join(lines)


def _labels_table(cells: Cells) -> str:
    """Right labels in percent, a row a method."""
    tasks = list(cells.config.tasks)
    lines = [f"| right labels | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for method in cells.config.methods:
        found = [mean_and_deviation(cells.labels(task, method), 1) for task in tasks]
        lines.append(f"| {method} | {' | '.join(found)} |")
    return "\n".join(lines)


def _hyperparameters_table(cells: Cells) -> str:
    """Right labels in percent and computed tokens, a row a setting."""
    tasks = list(cells.config.tasks)
    head = [*(f"right on {task}" for task in tasks), *(f"tokens, {task}" for task in tasks)]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for method in cells.config.methods:
        right = [mean_and_deviation(cells.labels(task, method), 1) for task in tasks]
        tokens = [fmean(cells.metrics(task, method, "computed_tokens")) for task in tasks]
        found = [*right, *(f"{count:,.0f}" for count in tokens)]
        lines.append(f"| {method} | {' | '.join(found)} |")
    return "\n".join(lines)


def _iterations(cells: Cells) -> str:
    """Right labels over the paper's search, as a picture, a panel a task."""
    panels = {}
    for task in SALIENT:
        panels[task] = {
            method: [
                (
                    [record["iteration"] for record in records],
                    [100 * record["accuracy"] for record in records],
                )
                for records in cells.history(task, method)
            ]
            for method in ("search", "no consistency")
        }
    return curves(panels, ["iterations"] * len(panels))


if __name__ == "__main__":
    run(main)
