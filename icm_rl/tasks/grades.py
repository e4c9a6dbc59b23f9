"""Responses to a prompt, each graded from 1 to N by claims: does it deserve at least k points?

Columns: ``prompt`` (text or messages), ``responses`` (a list of texts), and where known ``labels``
and ``human_labels`` (a list each, one grade a response, null where it is not known) and ``id``. A
grade is one more than the claims that are True of k = 2, …, N; a claim of more points implies those
of fewer.
"""

from collections.abc import Mapping

from icm_rl.data import Row
from icm_rl.errors import InputError
from icm_rl.tasks.base import Dataset, Example, Label, Responses, Task, add_example
from icm_rl.tasks.pairs import as_query
from icm_rl.tasks.relations import implication
from icm_rl.tasks.responses import LABEL_FIELDS, kept_responses, one_each

TEMPLATE = (
    "Query: {query}\nResponse: {response}\nClaim: This response deserves at least {k} of {n} "
    "points\nI think this claim is"
)


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds a row's responses, each a group of claims; a repeated response is left out."""
    prompt, texts = row.messages("prompt", "user"), row.texts("responses")
    group = row.id(index)
    grades = {name: _grades(task, row, field, len(texts)) for name, field in LABEL_FIELDS.items()}
    kept = kept_responses(data, row, group, texts)
    thresholds = range(2, task.highest_grade + 1)
    claims = {f"{group}:{r}": [f"{group}:{r}:{k}" for k in thresholds] for r in kept}
    if claims:
        shown = {f"{group}:{r}": texts[r] for r in kept}
        data.responses[group] = Responses(prompt, shown, claims)
    for r in kept:
        for k, id in zip(thresholds, claims[f"{group}:{r}"], strict=True):
            values = {"query": as_query(prompt), "response": texts[r]}
            text = task.filled(values | {"k": str(k), "n": str(task.highest_grade)})
            known = {
                name: grade >= k
                for name, of_row in grades.items()
                if (grade := of_row[r]) is not None
            }
            add_example(data, Example(id, text, f"{group}:{r}", str(k)), known)


def _grades(task: Task, row: Row, field: str, count: int) -> list[int | None]:
    """The grades of a row's responses, None where one is not known.

    Raises:
        InputError: They are not one for each response, or one is no whole number from 1 to N.
    """
    grades = one_each(row, field, count)
    known = range(1, task.highest_grade + 1)
    for grade in grades:
        if grade is not None and (isinstance(grade, bool) or grade not in known):
            raise InputError(
                f"{row.where}: the field '{field}' has the grade {grade!r}; give whole numbers "
                f"from 1 to {task.highest_grade} (--highest_grade), or null"
            )
    return grades


def grades_of(data: Dataset, labels: Mapping[str, Label]) -> dict[str, int]:
    """The grade of each response whose claims all have a label."""
    return {
        id: 1 + sum(labels[claim] is True for claim in claims)
        for found in data.responses.values()
        for id, claims in found.claims.items()
        if all(claim in labels for claim in claims)
    }


TASK = Task("grades", TEMPLATE, add, implication, row_is_group=True)
