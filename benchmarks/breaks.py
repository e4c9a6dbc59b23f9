"""Where ways to label without labels break: how right, how well ranked and how sure they are there.

    python benchmarks/breaks.py

Writes claims of the miniature's world in which few or nearly all are True, in which half are of
creatures that nobody knows, and in which the true ones are the polite ones four times in five; runs
the experiment of ``configs/miniature/breaks.yaml`` on them; and writes the table to OUTPUT_DIR.
Continues where it was stopped.
"""

import math
import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from cells import Cells, experiment
from sklearn.metrics import roc_auc_score

from icm_rl.data import read_rows
from icm_rl.files import write_jsonl, write_text
from icm_rl.miniature.world import OPENERS, Query, Response, World
from icm_rl.report.table import mean_and_deviation
from icm_rl.reward.training import calibration
from icm_rl.runner import run
from icm_rl.settings import parse

CLAIMS = 48
SHARES = (5, 10, 25, 50, 75, 90, 95, 98)
POLITE = 0.8
"""How often a true claim is the polite one, and a false one is not."""
IMPOSSIBLE = "half impossible"
_UNCERTAIN = math.log(3)
"""Log-odds of a label that is three times as likely as the other."""


@dataclass
class BreaksConfig:
    """Where ways to label break."""

    output_dir: str = field(default="runs/breaks", metadata={"help": "Folder of data and table."})


def main() -> None:
    (config,) = parse([BreaksConfig])
    folder = Path(config.output_dir)
    _write_data(folder / "data")
    rows = read_rows(folder / "data" / "impossible.jsonl")
    possible = {row["id"] for row in rows if row["possible"]}
    (cells,) = experiment("miniature/breaks").values()
    tables = [
        _table("labels right, %", cells, _right),
        _table("rank of True above False, AUROC, %", cells, _ranked),
        _table("calibration error, %", cells, _miscalibrated),
        _impossible_table(cells, possible),
    ]
    text = "\n\n".join(tables)
    write_text(folder / "breaks.md", text + "\n")
    print(text)


def _write_data(folder: Path) -> None:
    world, elsewhere = World(0), World(1)
    known = {query.text for query in world.all()}
    unknown = [q for q in elsewhere.by_kind["fact"] if q.text not in known]
    facts = [q for q in world.by_kind["fact"] if not q.misconception]
    for share in SHARES:
        rng = random.Random(f"breaks {share}")
        right = round(CLAIMS * share / 100)
        labels = [True] * right + [False] * (CLAIMS - right)
        write_jsonl(folder / f"true_{share}.jsonl", _rows(facts, labels, rng))
    rng, half = random.Random("breaks impossible"), [True, False] * (CLAIMS // 4)
    rows = [
        *({**row, "possible": True} for row in _rows(facts, half, rng)),
        *({**row, "possible": False} for row in _rows(unknown, half, rng)),
    ]
    rng.shuffle(rows)
    write_jsonl(folder / "impossible.jsonl", _numbered(rows))
    rng = random.Random("breaks polite")
    labels = [True, False] * (CLAIMS // 2)
    polite = [label == (rng.random() < POLITE) for label in labels]
    write_jsonl(folder / "polite.jsonl", _rows(facts, labels, rng, polite))


def _rows(
    queries: Sequence[Query],
    labels: Sequence[bool],
    rng: random.Random,
    polite: Sequence[bool] | None = None,
) -> Iterator[dict[str, Any]]:
    """TruthfulQA's columns: one claim a question, each a group of its own."""
    own = [rng.random() < 0.5 for _ in labels] if polite is None else polite
    asked = rng.sample(list(queries), len(labels))
    rows = []
    for query, label, is_polite in zip(asked, labels, own, strict=True):
        core = query.right if label else rng.choice(query.wrong)
        response = Response(core, rng.choice(OPENERS) if is_polite else "")
        rows.append({"question": query.text, "choice": response.text, "label": label})
    rng.shuffle(rows)
    return _numbered(rows)


def _numbered(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        yield {**row, "id": str(number), "consistency_id": number}


Odds = Sequence[tuple[bool, float]]
"""Of each claim, whether it is True and the log-odds of True that a method gives it."""


def _odds(cell: Path, ids: Collection[str] | None = None) -> Odds:
    """Of a cell's claims, or of some of them."""
    rows = list(read_rows(cell / "labels" / "labels.jsonl"))
    return [
        (row["gold"], row["log_odds"] if row["label"] else -row["log_odds"])
        for row in rows
        if ids is None or row["id"] in ids
    ]


def _right(odds: Odds) -> float:
    return fmean((value > 0) == gold for gold, value in odds)


def _ranked(odds: Odds) -> float:
    gold, values = zip(*odds, strict=True)
    return float(roc_auc_score(gold, values)) if len(set(gold)) > 1 else math.nan


def _miscalibrated(odds: Odds) -> float:
    found = calibration([value if gold else -value for gold, value in odds])
    return float(found["eval_calibration_error"])


def _table(title: str, cells: Cells, figure: Callable[[Odds], float]) -> str:
    """A figure in percent, a row a method, a column a task; the mean and deviation over seeds."""
    tasks = [task for task in cells.config.tasks if task != IMPOSSIBLE]
    lines = [f"| {title} | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
    for method in cells.config.methods:
        found = []
        for task in tasks:
            values = [100 * figure(_odds(cell)) for cell in cells.folders[task, method]]
            found.append("" if math.isnan(values[0]) else mean_and_deviation(values, 1))
        lines.append(f"| {method} | {' | '.join(found)} |")
    return "\n".join(lines)


def _impossible_table(cells: Cells, possible: Collection[str]) -> str:
    """Whether a method is less sure of the claims that nothing decides."""
    lines = [
        f"| {IMPOSSIBLE} | possible right, % | surer of possible than of impossible, AUROC, % "
        "| possible uncertain, % | impossible uncertain, % |",
        "|---" * 5 + "|",
    ]
    for method in cells.config.methods:
        seeds = [_sureness(cell, possible) for cell in cells.folders[IMPOSSIBLE, method]]
        found = [mean_and_deviation(list(of_seeds), 1) for of_seeds in zip(*seeds, strict=True)]
        lines.append(f"| {method} | {' | '.join(found)} |")
    return "\n".join(lines)


def _sureness(cell: Path, possible: Collection[str]) -> tuple[float, ...]:
    every = {row["id"] for row in read_rows(cell / "labels" / "labels.jsonl")}
    known, unknown = _odds(cell, possible), _odds(cell, every - set(possible))
    known_sure, unknown_sure = ([abs(value) for _, value in odds] for odds in (known, unknown))
    is_known = [True] * len(known) + [False] * len(unknown)
    told_apart = float(roc_auc_score(is_known, known_sure + unknown_sure))
    uncertain = (fmean(value < _UNCERTAIN for value in sure) for sure in (known_sure, unknown_sure))
    return tuple(100 * share for share in (_right(known), told_apart, *uncertain))


if __name__ == "__main__":
    run(main)
