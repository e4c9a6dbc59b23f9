"""Labels of many pairs by a reward model that learned a few of them.

The first version of Wen et al. 2025 scaled ICM up this way: it labels some thousand pairs, a reward
model learns these and labels several hundred thousand, and the final reward model learns all.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Protocol

from accelerate import PartialState
from annotated_types import Ge

from icm_rl.data import Row, Source
from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.icm.writing import preference_rows
from icm_rl.progress import Progress
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.settings import EXECUTION, INPUT, require_given
from icm_rl.shards import Shard
from icm_rl.tasks import PAIR_TASKS, Dataset, Task
from icm_rl.tasks.base import Messages

ROWS_AT_ONCE = 256
"""Rows of a part: what one process scores between two saves."""


@dataclass
class SpreadConfig:
    """Preferences of many pairs, by a reward model."""

    reward_model: Annotated[str, INPUT] = field(
        default="", metadata={"help": "The reward model that labels: a directory or a Hub name."}
    )
    task: str = field(
        default="preferences",
        metadata={"help": f"Task of the data: {', '.join(PAIR_TASKS)}.", "choices": [*PAIR_TASKS]},
    )
    data: Annotated[str, INPUT] = field(
        default="", metadata={"help": "The pairs: a file, or a data set's name on the Hub."}
    )
    data_config: str | None = field(
        default=None, metadata={"help": "Configuration of a data set on the Hub."}
    )
    data_split: str = field(default="train", metadata={"help": "Split of a data set on the Hub."})
    limit: Annotated[int | None, Ge(1)] = field(
        default=None, metadata={"help": "Label only the first rows, so many."}
    )
    output_dir: Annotated[str, EXECUTION] = field(
        default="runs/spread", metadata={"help": "Folder for the preferences and metrics."}
    )
    dtype: str = field(default="auto", metadata={"help": "The reward model's number type."})
    trust_remote_code: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Let the reward model run its own code."}
    )
    shard: Annotated[str | None, EXECUTION] = field(
        default=None,
        metadata={
            "help": "I/N: score only the I-th of N shares of the pairs, as a job of an array; the "
            "same command without it scores what is left and writes the preferences."
        },
    )
    ray_actors: Annotated[int | None, Ge(1), EXECUTION] = field(
        default=None,
        metadata={
            "help": "Score by so many actors of a Ray cluster, each with the reward model and a "
            "GPU, or a core where there is none: that of RAY_ADDRESS, or one on this machine."
        },
    )
    batch_tokens: Annotated[int, Ge(1), EXECUTION] = field(
        default=16_384, metadata={"help": "Padded tokens that one batch may hold."}
    )

    def __post_init__(self) -> None:
        require_given(self, "reward_model", "data")
        Shard.parse(self.shard)

    @property
    def rows(self) -> Iterator[Row]:
        """The rows, one after the other, in the task's own columns."""
        source = Source(self.data, self.data_config, self.data_split)
        return islice(PAIR_TASKS[self.task].prepare(source.rows()), self.limit)


class Scorer(Protocol):
    """What scores conversations, here or on a cluster."""

    def score_groups(self, groups: Sequence[Sequence[Messages]]) -> list[list[float]]: ...


def load_scorer(config: SpreadConfig) -> Scorer:
    """The reward model, in this process or on a Ray cluster.

    Raises:
        InputError: It cannot be loaded, or there is no such cluster.
    """
    by = config.reward_model, config.dtype, config.batch_tokens, config.trust_remote_code
    if config.ray_actors:
        from icm_rl.reward.clustered import ClusterScorer

        return ClusterScorer(config.ray_actors, *by)
    return RewardScorer.load(*by)


def spread(config: SpreadConfig, scorer: Scorer, folder: Path) -> dict[str, Any]:
    """Writes a preference for each pair, of what the reward model scores higher.

    Its ``log_odds`` are the difference of the two scores, of which the Bradley-Terry model makes
    the probability. Rows are read, scored and written part by part, so that memory does not grow
    with them; shards and processes share the parts out, and one that is there is not scored again.

    Args:
        config: The settings.
        scorer: The reward model.
        folder: Where ``preferences.jsonl`` goes, once all ``parts`` are there.

    Returns:
        How many pairs there are, how many say nothing of what is better, and the share of labels
        that are right where gold ones are known.

    Raises:
        InputError: A row is bad, or a score is no number.
        ShareDone: This is a shard, whose share is done.
    """
    state, task, shard = PartialState(), PAIR_TASKS[config.task], Shard.parse(config.shard)
    total = sum(1 for _ in config.rows)
    count = math.ceil(total / ROWS_AT_ONCE)
    files = [folder / "parts" / f"{part:06}.jsonl" for part in range(count)]
    progress = Progress("pairs", total, unit="pair", shown=state.is_main_process)
    rows, own = config.rows, set(shard.own(range(count)))
    for part, file in enumerate(files):
        read = list(islice(rows, ROWS_AT_ONCE))
        if part in own and not file.exists():
            write_jsonl(file, _labeled(task, read, part * ROWS_AT_ONCE, scorer))
        progress.advance(len(read))
    progress.close()
    state.wait_for_everyone()
    shard.end()
    if not state.is_main_process:
        return {}
    counts = [json.loads(next(_lines(file))) for file in files]
    write_jsonl(
        folder / "preferences.jsonl",
        (json.loads(line) for file in files for line in islice(_lines(file), 1, None)),
    )
    found = {name: sum(part[name] for part in counts) for name in ("pairs", "pairs_dropped")}
    known = sum(part["known"] for part in counts)
    right = sum(part["right"] for part in counts)
    return {**found, "label_accuracy": right / known if known else None}


def _labeled(
    task: Task, rows: Iterable[Row], first: int, scorer: Scorer
) -> Iterator[dict[str, Any]]:
    """A part's counts, and its preferences."""
    data = Dataset()
    for index, row in enumerate(rows, first):
        task.add(task, data, row, index)
    asked = [
        [conversation(pair.prompt, answer) for answer in pair.responses]
        for pair in data.pairs.values()
    ]
    margins = {}
    for group, (one, other) in zip(data.pairs, scorer.score_groups(asked), strict=True):
        if not math.isfinite(one - other):
            raise InputError(f"row '{group}': the reward model scores {one} and {other}")
        margins[group] = one - other
    labels = {e.id: (margins[e.group] > 0) == (e.key == "A>B") for e in data.examples}
    preferences = preference_rows(
        data, labels, {e.id: abs(margins[e.group]) for e in data.examples}
    )
    yield {
        "pairs": len(preferences),
        "pairs_dropped": len(data.left_out),
        "known": len(data.gold),
        "right": sum(labels[id] == label for id, label in data.gold.items()),
    }
    yield from preferences


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        yield from lines
