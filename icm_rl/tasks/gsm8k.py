"""GSM8K-verification: is a worked solution right? Two different results cannot both be.

Columns: ``question``, ``cot`` (the worked solution), ``answer`` (its result), ``consistency_id``,
and where known ``label``, ``human_label`` and ``id``.
"""

from icm_rl.files import Row
from icm_rl.tasks.base import Dataset, Example, Task, add_claim, exclusive

TEMPLATE = "Question: {question}\nClaim: {claim}\nI think this claim is"


def add(data: Dataset, row: Row, index: int) -> None:
    """Adds one worked solution."""
    text = TEMPLATE.format(question=row.text("question"), claim=row.text("cot"))
    group, key = row.text("consistency_id"), row.text("answer")
    add_claim(data, row, Example(row.id(index), text, group, key))


TASK = Task("gsm8k", add, exclusive)
