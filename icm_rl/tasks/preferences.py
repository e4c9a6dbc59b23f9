"""Preference pairs, one a row: both orders of a pair become an example each.

Columns: ``prompt``, ``response_a``, ``response_b``, and where known ``label`` and ``human_label``
(whether A is better) and ``id``.
"""

from icm_rl.files import Row
from icm_rl.tasks.alpaca import TEMPLATE
from icm_rl.tasks.base import Dataset, Example, Pair, Task, asymmetric


def add(data: Dataset, row: Row, index: int) -> None:
    """Adds the two orders of a pair."""
    prompt, a, b = row.text("prompt"), row.text("response_a"), row.text("response_b")
    group = row.id(index)
    data.pairs[group] = Pair(prompt, (a, b))
    orders = {"A>B": (a, b), "B>A": (b, a)}
    for key, (first, second) in orders.items():
        text = TEMPLATE.format(query=prompt, a=first, b=second)
        example = Example(f"{group}:{key}", text, group, key)
        data.examples.append(example)
        for labels, field in ((data.gold, "label"), (data.human, "human_label")):
            label = row.label(field)
            if label is not None:
                labels[example.id] = label if key == "A>B" else not label


TASK = Task("preferences", add, asymmetric)
