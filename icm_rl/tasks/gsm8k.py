"""GSM8K-verification: is a worked solution right? Two different results cannot both be.

Columns: ``question``, ``cot`` (the worked solution), ``answer`` (its result), ``consistency_id``,
and where known ``label``, ``human_label`` and ``id``.
"""

import re
from collections.abc import Iterable, Iterator

from icm_rl.data import Row, Source
from icm_rl.tasks.base import Task
from icm_rl.tasks.claims import add
from icm_rl.tasks.relations import exclusive

_STEP_MARK = re.compile(r"\s*[+-]\s*(?=\n|$)")


def _solutions(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in the columns ``question, cot, answer, consistency_id``.

    A row of Math-Shepherd (Wang et al. 2024) holds question and solution in one text, with a mark
    after each step; that of the last step says whether the result is right.
    """
    groups: dict[str, int] = {}
    for row in rows:
        if "task" not in row.values:
            yield row
            continue
        marked = row.text("label").strip()
        question, step, solution = marked.partition("Step 1:")
        cot = _STEP_MARK.sub("", step + solution)
        _, found, answer = cot.rpartition("The answer is:")
        if row.values["task"] == "GSM8K" and found and marked[-1] in "+-":
            question = question.strip()
            values = {"question": question, "cot": cot, "answer": answer.strip()}
            group = groups.setdefault(question, len(groups))
            label = marked.endswith("+")
            yield Row(row.where, {**values, "label": label, "consistency_id": group})


TASK = Task(
    "gsm8k",
    "Question: {question}\nClaim: {cot}\nI think this claim is",
    add,
    exclusive,
    Source("peiyi9979/Math-Shepherd"),
    _solutions,
    group_column="consistency_id",
    key_column="answer",
)
