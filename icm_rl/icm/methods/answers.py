"""What methods that ask once of each example share: processes, kills, costs, and the choice."""

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from accelerate import PartialState

from icm_rl.files import read_json, write_json
from icm_rl.icm.methods.base import Cost, Job, Labeling
from icm_rl.icm.objective import Labels, LogProbs, all_log_odds, labels_log_odds
from icm_rl.icm.prompting import chosen
from icm_rl.progress import Progress
from icm_rl.tasks import Example

_FEWEST, _MOST, _PARTS = 32, 256, 16
"""Examples of a part, which one process asks between two saves, and how many parts there are
while their examples are between these."""


def answered(
    job: Job,
    name: str,
    ask: Callable[[Sequence[Example]], LogProbs],
    consistency: bool,
    centered: bool,
    folder: str = "answers",
) -> Labeling:
    """The labels that an answer to each example gives.

    Args:
        job: The data set.
        name: What is shown while one waits.
        ask: The log-probability of each label, for some examples.
        consistency: Whether the most confident example of a group decides on it (Algorithm 4).
        centered: Whether log-odds are taken less their center over all examples.
        folder: Where in the job's folder the answers are kept.
    """

    def save(examples: Sequence[Example], file: Path) -> None:
        with job.metered() as spent:
            answers = ask(examples)
        write_json(file, {"log_probs": answers, "cost": spent[0].to_json()})

    saved = [read_json(file) for file in in_parts(job, name, job.folder / folder, ".json", save)]
    log_probs = {id: tuple(answer) for part in saved for id, answer in part["log_probs"].items()}
    odds = all_log_odds(log_probs, centered)
    labels = chosen(job.examples, odds, job.task, consistency)
    cost = sum((Cost(**part["cost"]) for part in saved), Cost())
    return Labeling(labels, labels_log_odds(job.task, labels, odds), cost)


def in_parts(
    job: Job,
    name: str,
    folder: Path,
    suffix: str,
    save: Callable[[Sequence[Example], Path], None],
) -> list[Path]:
    """The files of all parts of the data set, in its order, once each has been saved.

    Shards and processes share out the parts, and a part that was saved is not asked again when the
    run was killed; neither changes what is saved.

    Args:
        job: The data set.
        name: What is shown while one waits.
        folder: Where the files go.
        suffix: How their names end.
        save: Writes the file of some examples, whole or not at all.

    Raises:
        ShareDone: Parts of other shards are missing.
    """
    size = min(_MOST, max(_FEWEST, ceil(len(job.examples) / _PARTS)))
    starts = range(0, len(job.examples), size)
    parts = {k: job.examples[start : start + size] for k, start in enumerate(starts)}
    files = {k: folder / f"{k:05}{suffix}" for k in parts}
    own = job.shard.own(list(parts))
    done = sum(len(parts[k]) for k in own if files[k].exists())
    total = sum(len(parts[k]) for k in own)
    progress = Progress(name, total, done, "example", PartialState().is_main_process)
    for k in own:
        if not files[k].exists():
            save(parts[k], files[k])
            progress.advance(len(parts[k]))
    progress.close()
    job.shard.wait(files.values())
    return list(files.values())


def round_record(number: int, before: Labels, labels: Labels) -> dict[str, Any]:
    """One line of the history of a method that labels all again and again.

    Args:
        number: The round's, from 0.
        before: The labels of the round before.
        labels: Its own.
    """
    changes = {id: label for id, label in labels.items() if before.get(id) != label}
    return {"pool": 0, "iteration": number, "labeled": len(labels), "changes": changes}
