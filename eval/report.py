"""Write a finished run's report again, with an audit's answers, or a page that compares runs.

    python eval/report.py --runs runs/demo --audit audit.json
    python eval/report.py --runs PPO=runs/demo GRPO=runs/grpo --output runs/comparison.html

A run is a folder of recipes/pipeline.py or one of its reports, such as runs/demo/report-human.json.
"""

from dataclasses import dataclass, field
from pathlib import Path

from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json
from icm_rl.report.audit import read_audit, run_id
from icm_rl.report.collect import collect
from icm_rl.report.run import read_run, report_path, write_comparison, write_report
from icm_rl.runner import run
from icm_rl.settings import parse, require_given
from icm_rl.terminal import say


@dataclass
class ReportConfig:
    """A run's report, or several runs compared."""

    runs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Finished runs: PATH or NAME=PATH each. Of several, those of one name are "
            "taken for its seeds."
        },
    )
    audit: str | None = field(
        default=None,
        metadata={
            "help": "The file with a person's answers that a run's page saved; the report of "
            "that run keeps and states it."
        },
    )
    output: str = field(
        default="runs/comparison.html",
        metadata={
            "help": "The page on which several runs are compared; its table as Markdown too."
        },
    )

    def __post_init__(self) -> None:
        require_given(self, "runs")
        if self.audit and len(self.runs) > 1:
            raise InputError("--audit is of one run's labels; give one of --runs with it")


def main() -> None:
    (config,) = parse([ReportConfig])
    runs = []
    for given in config.runs:
        name, _, path = given.rpartition("=")
        found = Path(path) if path.endswith(".json") else report_path(Path(path))
        runs.append((name or Path(path).stem, found, *read_run(found)))
    if len(runs) > 1:
        shown = [(name, report, updates) for name, _, report, updates in runs]
        write_comparison(config.output, shown)
        say(f"comparison: {config.output}")
        return
    [(_, path, report, _)] = runs
    folder = path.parent
    if config.audit:
        read_audit(config.audit, run_id(folder / "icm" / "labels.jsonl"))
        write_json(folder / "audit.json", read_json(config.audit))
    page = write_report(folder, collect(folder, report["rl"], report["label_source"]))
    say(f"report: {page}")


if __name__ == "__main__":
    run(main)
