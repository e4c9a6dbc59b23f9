"""TruthfulQA: is an answer to a question true? Two different answers cannot both be.

Columns: ``question``, ``choice``, ``consistency_id`` (the question's), and where known ``label``,
``human_label``, ``id`` and ``answer`` (what the choice asserts, where choices differ in wording).
"""

import random
from collections.abc import Iterable, Iterator

from icm_rl.data import Row, Source
from icm_rl.tasks.base import Task
from icm_rl.tasks.claims import add
from icm_rl.tasks.relations import exclusive


def _answers(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows in the columns ``question, choice, answer, consistency_id``.

    ``answer`` is what the choice asserts, by default its words. A row of the Hub's multiple-choice
    form holds all choices of a question, the right one first; they become a row each, shuffled.
    """
    for index, row in enumerate(rows):
        if "mc1_targets" not in row.values:
            answer = row.values.get("answer", row.values.get("choice"))
            yield Row(row.where, {**row.values, "answer": answer})
            continue
        question, targets = row.text("question"), row["mc1_targets"]
        choices = list(zip(targets["choices"], targets["labels"], strict=True))
        random.Random(question).shuffle(choices)
        for choice, label in choices:
            values = {"question": question, "choice": choice, "answer": choice, "label": label}
            yield Row(row.where, {**values, "consistency_id": index})


TASK = Task(
    "truthfulqa",
    "Question: {question}\nClaim: {choice}\nI think this claim is",
    add,
    exclusive,
    Source("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    _answers,
    group_column="consistency_id",
    key_column="answer",
)
