"""Reports of one run and of several, written; and a run's report read from its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_rl.data import read_rows
from icm_rl.files import read_json, write_json, write_text
from icm_rl.pipeline import policy_folders
from icm_rl.report.audit import run_id
from icm_rl.report.browser import label_data
from icm_rl.report.comparison import Run, comparison_page
from icm_rl.report.page import html, markdown
from icm_rl.report.sections import run_page


def write_report(folder: str | Path, report: Mapping[str, Any]) -> Path:
    """Writes a run's report as JSON, as a self-contained page and as Markdown.

    Args:
        folder: The run's folder.
        report: What ``collect`` gathered.

    Returns:
        The page's path.
    """
    folder = Path(folder)
    labels = folder / "icm" / "labels.jsonl"
    history = [dict(row.values) for row in read_rows(folder / "icm" / "history.jsonl")]
    page = run_page(folder, report, history)
    browsed = label_data([dict(row.values) for row in read_rows(labels)], history)
    path = report_path(folder, report["label_source"])
    write_json(path, report)
    write_text(path.with_suffix(".md"), markdown(page))
    write_text(path.with_suffix(".html"), html(page, {"run": run_id(labels), **browsed}))
    return path.with_suffix(".html")


def write_comparison(path: str | Path, runs: Sequence[Run]) -> None:
    """Writes the page that compares runs to ``path``, and its table as Markdown beside it."""
    page = comparison_page(runs)
    write_text(Path(path).with_suffix(".md"), markdown(page))
    write_text(path, html(page))


def report_path(folder: Path, label_source: str = "icm") -> Path:
    """Where the report is of the policy that was trained by these labels."""
    return folder / ("report.json" if label_source == "icm" else f"report-{label_source}.json")


def read_run(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A report, and the updates in RL of the run whose folder it lies in.

    Raises:
        InputError: A file is missing.
    """
    report = read_json(path)
    training, _ = policy_folders(report["rl"], report["label_source"])
    updates = read_rows(path.parent / training / "history.jsonl")
    return report, [dict(row.values) for row in updates]
