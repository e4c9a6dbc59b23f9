"""Poems (Section 4.2): the better one mentions the sun, which nothing in the template says."""

import re

from icm_rl.data import Row, Source
from icm_rl.tasks.base import Task
from icm_rl.tasks.pairs import add, paired
from icm_rl.tasks.relations import asymmetric


def _of_the_sun(row: Row, text: str) -> bool:
    return re.search(r"\bsun\b", text, re.IGNORECASE) is not None


TASK = Task(
    "poems",
    "Poem A: {a}\nPoem B: {b}\nClaim: Poem A is better than Poem B\nI think this claim is",
    add,
    asymmetric,
    Source("merve/poetry"),
    paired("content", _of_the_sun),
    row_is_group=True,
)
