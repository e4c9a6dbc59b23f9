"""Responses to a prompt, each judged by itself: is this one helpful?

Half the tokens of a comparison, and within reach of models that cannot compare. Columns: ``prompt``
(text or messages), ``responses`` (a list of texts), and where known ``labels`` and ``human_labels``
(a list each, one label a response, null where it is not known) and ``id``.
"""

from collections.abc import Sequence
from typing import Any

from icm_rl.data import Row
from icm_rl.errors import InputError
from icm_rl.tasks.base import Dataset, Example, Label, Responses, Task, add_example
from icm_rl.tasks.pairs import as_query
from icm_rl.tasks.relations import unrelated

TEMPLATE = (
    "Query: {query}\nResponse: {response}\nClaim: This response is helpful\nI think this claim is"
)
LABEL_FIELDS = {"gold": "labels", "human": "human_labels"}


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds a row's responses, a group; a response that repeats another one is left out."""
    prompt, texts = row.messages("prompt", "user"), row.texts("responses")
    group = row.id(index)
    known = {name: _labels(task, row, field, len(texts)) for name, field in LABEL_FIELDS.items()}
    kept = kept_responses(data, row, group, texts)
    if kept:
        claims = {f"{group}:{k}": [f"{group}:{k}"] for k in kept}
        data.responses[group] = Responses(prompt, {f"{group}:{k}": texts[k] for k in kept}, claims)
    for k in kept:
        text = task.filled({"query": as_query(prompt), "response": texts[k]})
        of_response = {
            name: label for name, labels in known.items() if (label := labels[k]) is not None
        }
        add_example(data, Example(f"{group}:{k}", text, group, str(k)), of_response)


def kept_responses(data: Dataset, row: Row, group: str, texts: Sequence[str]) -> list[int]:
    """Which responses are neither empty nor there before; none, and noted, if they are one only.

    Raises:
        InputError: The row has one response.
    """
    if len(texts) < 2:
        raise InputError(
            f"{row.where}: the field 'responses' has one response, which is better than no other; "
            "give two or more"
        )
    kept = [k for k, text in enumerate(texts) if text.strip() and texts.index(text) == k]
    if len(kept) < 2:
        data.left_out[group] = "whose responses are empty or all the same"
        return []
    return kept


def one_each(row: Row, field: str, count: int) -> list[Any]:
    """What the row's field says of each response, None where it is not known.

    Raises:
        InputError: It is not one value for each.
    """
    values = row.values.get(field)
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise InputError(f"{row.where}: the field '{field}' must be a list of {count} labels")
    return values


def _labels(task: Task, row: Row, field: str, count: int) -> list[Label | None]:
    """The labels of a row's responses, None where one is not known.

    Raises:
        InputError: They are not one for each response, or one is outside the task's label set.
    """
    labels = one_each(row, field, count)
    return [Row(row.where, {field: label}).label(field, task.verbalizers) for label in labels]


TASK = Task("responses", TEMPLATE, add, unrelated, row_is_group=True)
