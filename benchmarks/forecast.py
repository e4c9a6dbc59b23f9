"""How well the accuracy of labels is forecast without gold labels, on tasks and models never seen.

    python benchmarks/forecast.py --data ../shared/data

``--data`` is a folder with sentences and their sentiment (``reviews.jsonl``, ``rt_polarity.jsonl``)
and with the paper's own of TruthfulQA (``icm_truthfulqa_test.json``). Labels these by SmolLM2 and
the miniature's tasks by the miniature, well and badly (the experiments of
``configs/smollm2/forecast.yaml`` and of the miniature's); forecasts each labeling by a regression
that saw neither its task nor its model; and writes a table, and the regression on all but the
miniature's *word*. Continues where it was stopped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean

from cells import Cells, experiment
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from icm_rl.data import read_rows
from icm_rl.files import read_json, write_json, write_jsonl, write_text
from icm_rl.icm.forecast import Forecast, Known, fitted
from icm_rl.icm.signals import Signals
from icm_rl.runner import run
from icm_rl.settings import parse, require_given

FILES = {
    "reviews": ("reviews.jsonl", "group", 20),
    "polarity": ("rt_polarity.jsonl", "group", 20),
    "truthfulqa": ("icm_truthfulqa_test.json", "consistency_id", 6),
}
"""A file, its column of groups, and how many of these are labeled."""
TESTED = 10
"""Of so many further groups the test split is."""
UNNAMED = "word"
"""The task whose concept its question does not name: labels of another one look as good."""
GIVEN = ("golden", "human", "perturbed")
"""Methods whose labels come from elsewhere: what the model says of them it did not say itself."""
CLOSE = 0.05


@dataclass
class ForecastConfig:
    """How well the accuracy of labels is forecast."""

    data: str = field(default="", metadata={"help": "Folder of the files of real text."})
    output_dir: str = field(
        default="runs/forecast", metadata={"help": "Folder of the data, labels, table and fit."}
    )

    def __post_init__(self) -> None:
        require_given(self, "data")


@dataclass(frozen=True)
class Tried:
    """A labeling, what was forecast of it, and what golden many-shot prompting reaches."""

    known: Known
    method: str
    forecast: Forecast
    golden: float

    @property
    def close(self) -> bool:
        """Whether its labels are within 5 points of golden many-shot prompting."""
        return self.known.accuracy >= self.golden - CLOSE


def main() -> None:
    (config,) = parse([ForecastConfig])
    folder = Path(config.output_dir)
    _write_data(Path(config.data), folder / "data")
    known: list[tuple[Known, str, float]] = []
    for of_experiment in ("smollm2/forecast", "miniature/forecast"):
        for model, cells in experiment(of_experiment).items():
            known += _known(model, cells)
    learned = [one for one, *_ in known if one.task != UNNAMED]
    tried = []
    for one, method, golden in known:
        unseen = [other for other in learned if _foreign(other, one)]
        tried.append(Tried(one, method, fitted(unseen).forecast(one.signals), golden))
    named = [one for one in tried if one.known.task != UNNAMED]
    lines = [
        "| labelings | number | rank correlation | AUROC | in the interval | trusted, not close "
        "| close, not to be used |",
        "|---" * 7 + "|",
    ]
    found = [one for one in named if not one.method.startswith(GIVEN)]
    lines += [_row("all", tried), _row(f"all but *{UNNAMED}*", named)]
    lines.append(_row("of these found without labels", found))
    for model in sorted({one.known.model for one in named}):
        lines.append(_row(f"of these by {model}", [k for k in found if k.known.model == model]))
    text = "\n".join(lines)
    write_text(folder / "forecast.md", text + "\n")
    write_json(folder / "forecast.json", fitted(learned).to_json())
    print(text)


def _write_data(source: Path, folder: Path) -> None:
    """The first groups of each file, to be labeled, and the next ones as test split."""
    for name, (file, column, count) in FILES.items():
        groups: dict[str, list] = {}
        for row in read_rows(source / file):
            groups.setdefault(str(row[column]), []).append(dict(row.values))
        parts = iter(groups.values())
        for split, size in (("train", count), ("test", TESTED)):
            rows = [row for group in islice(parts, size) for row in group]
            write_jsonl(folder / f"{name}_{split}.jsonl", rows)


def _known(model: str, cells: Cells) -> list[tuple[Known, str, float]]:
    """The labelings of an experiment by their methods; golden many-shot on the test split."""
    found = []
    for (task, method), folders in cells.folders.items():
        golden = fmean(cells.tested([task], "golden", "prompted")) / 100
        for folder in folders:
            metrics = read_json(folder / "labels" / "metrics.json")
            if "signals" in metrics:
                signals = Signals(**metrics["signals"])
                known = Known(signals, metrics["label_accuracy"], task, model)
                found.append((known, method, golden))
    return found


def _foreign(other: Known, one: Known) -> bool:
    return other.task != one.task and other.model != one.model


def _row(name: str, tried: Sequence[Tried]) -> str:
    accuracies = [one.known.accuracy for one in tried]
    forecasts = [one.forecast.accuracy for one in tried]
    close = [one.close for one in tried]
    inside = [one.forecast.low <= one.known.accuracy <= one.forecast.high for one in tried]
    trusted = sum(one.forecast.verdict == "trust" and not one.close for one in tried)
    refused = sum(one.forecast.verdict == "do not use" and one.close for one in tried)
    figures = [
        f"{spearmanr(accuracies, forecasts).statistic:.2f}",
        f"{roc_auc_score(close, forecasts):.2f}" if len(set(close)) == 2 else "",
        f"{100 * fmean(inside):.0f} %",
        f"{trusted}",
        f"{refused}",
    ]
    return f"| {name} | {len(tried)} | {' | '.join(figures)} |"


if __name__ == "__main__":
    run(main)
