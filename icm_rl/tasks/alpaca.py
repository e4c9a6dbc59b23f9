"""Alpaca comparisons, in the columns of the paper's files: each order of a pair is a row.

Columns: ``question``, ``choice`` (A), ``choice_2`` (B), ``consistency_id`` (which the two orders of
a pair share), and where known ``label``, ``human_label`` and ``id``.
"""

from collections.abc import Iterable, Iterator

from icm_rl.data import Row, Source
from icm_rl.errors import InputError
from icm_rl.tasks.base import Dataset, Example, Pair, Task, add_example
from icm_rl.tasks.pairs import compare, leaves_out
from icm_rl.tasks.preferences import TEMPLATE
from icm_rl.tasks.relations import asymmetric


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds one order of a pair; the group's first row decides which response is its first."""
    query, a, b = row.text("question"), row.text("choice"), row.text("choice_2")
    group = row.text("consistency_id")
    if leaves_out(data, group, a, b):
        return
    prompt = [{"role": "user", "content": query}]
    pair = data.pairs.setdefault(group, Pair(prompt, (a, b)))
    if (prompt, {a, b}) != (pair.prompt, set(pair.responses)):
        raise InputError(
            f"{row.where}: group '{group}' has another prompt or other responses; "
            "a group holds the two orders of one pair"
        )
    key = "A>B" if (a, b) == pair.responses else "B>A"
    text = compare(task, query, a, b)
    add_example(data, Example(row.id(index), text, group, key), task.known_labels(row))


def _alpaca(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of one order of a pair each; a row of AlpacaFarm (Dubois et al. 2023) becomes both."""
    for index, row in enumerate(rows):
        if "output_1" not in row.values:
            yield row
            continue
        question = "\n\n".join(filter(None, (row.text("instruction"), row.values.get("input"))))
        outputs = row.text("output_1"), row.text("output_2")
        preferred = row.values.get("preference")  # 1 or 2
        for number, (choice, other) in enumerate((outputs, outputs[::-1]), 1):
            pair = {"question": question, "choice": choice, "choice_2": other}
            label = None if preferred is None else preferred == number
            yield Row(row.where, {**pair, "label": label, "consistency_id": index})


TASK = Task(
    "alpaca",
    TEMPLATE,
    add,
    asymmetric,
    Source("json", data_files="hf://datasets/tatsu-lab/alpaca_farm/alpaca_human_preference.json"),
    _alpaca,
)
