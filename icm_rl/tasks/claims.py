"""Claims, one a row: the paper's TruthfulQA and GSM8K-verification, and the user's own."""

import random
import re
from collections.abc import Iterable, Iterator

from icm_rl.data import Row, Source
from icm_rl.tasks.base import Dataset, Example, Task, add_example
from icm_rl.tasks.relations import exclusive, same_key


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds a row's claim: the template's placeholders are columns."""
    text, id = task.render(row.text), row.id(index)
    group = row.text(task.group_column) if task.group_column else id
    key = row.text(task.key_column) if task.key_column else text
    add_example(data, Example(id, text, group, key), task.known_labels(row))


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


TRUTHFULQA = Task(
    "truthfulqa",
    "Question: {question}\nClaim: {choice}\nI think this claim is",
    add,
    exclusive,
    Source("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    _answers,
    group_column="consistency_id",
    key_column="answer",
)

GSM8K = Task(
    "gsm8k",
    "Question: {question}\nClaim: {cot}\nI think this claim is",
    add,
    exclusive,
    Source("peiyi9979/Math-Shepherd"),
    _solutions,
    group_column="consistency_id",
    key_column="answer",
)

CLAIMS = Task("claims", "{claim}\nI think this claim is", add, same_key)
"""The user's own: a template, and where claims are related the columns of group and key."""
