"""TruthfulQA: is an answer to a question true? Two different answers cannot both be.

Columns: ``question``, ``choice``, ``consistency_id`` (the question's), and where known ``label``,
``human_label``, ``id`` and ``answer`` (what the choice asserts, where choices differ in wording).
"""

from icm_rl.files import Row
from icm_rl.tasks.base import Dataset, Example, Task, add_claim, exclusive

TEMPLATE = "Question: {question}\nClaim: {claim}\nI think this claim is"


def add(data: Dataset, row: Row, index: int) -> None:
    """Adds one answer to a question."""
    text = TEMPLATE.format(question=row.text("question"), claim=row.text("choice"))
    key = row.text("answer") if "answer" in row.values else row.text("choice")
    add_claim(data, row, Example(row.id(index), text, row.text("consistency_id"), key))


TASK = Task("truthfulqa", add, exclusive)
