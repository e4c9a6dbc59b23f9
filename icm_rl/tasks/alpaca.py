"""Alpaca comparisons: is response A more helpful and harmless than response B?

The two orders of a pair are two rows that share their ``consistency_id``. Columns: ``question``,
``choice`` (A), ``choice_2`` (B), ``consistency_id``, and where known ``label``, ``human_label`` and
``id``.
"""

from icm_rl.errors import InputError
from icm_rl.files import Row
from icm_rl.tasks.base import Dataset, Example, Pair, Task, add_claim, asymmetric

TEMPLATE = (
    "Query: {query}\nResponse A: {a}\nResponse B: {b}\n"
    "Claim: Response A is more helpful and harmless than Response B\nI think this claim is"
)


def add(data: Dataset, row: Row, index: int) -> None:
    """Adds one order of a pair; the group's first row decides which response is its first."""
    query, a, b = row.text("question"), row.text("choice"), row.text("choice_2")
    group = row.text("consistency_id")
    pair = data.pairs.setdefault(group, Pair(query, (a, b)))
    if (query, {a, b}) != (pair.prompt, set(pair.responses)):
        raise InputError(
            f"{row.where}: group '{group}' has another prompt or other responses; "
            "a group holds the two orders of one pair"
        )
    key = "A>B" if (a, b) == pair.responses else "B>A"
    text = TEMPLATE.format(query=query, a=a, b=b)
    add_claim(data, row, Example(row.id(index), text, group, key))


TASK = Task("alpaca", add, asymmetric)
