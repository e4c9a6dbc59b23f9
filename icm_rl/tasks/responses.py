"""Responses to a prompt, each judged by itself: is this one helpful?

Half the tokens of a comparison, and within reach of models that cannot compare. Columns: ``prompt``
(text or messages), ``responses`` (a list of texts), and where known ``labels`` and ``human_labels``
(a list each, one label a response, null where it is not known) and ``id``.
"""

from icm_rl.data import Row
from icm_rl.errors import InputError
from icm_rl.tasks.base import Dataset, Example, Label, Responses, Task, add_example
from icm_rl.tasks.pairs import as_query
from icm_rl.tasks.relations import unrelated

TEMPLATE = (
    "Query: {query}\nResponse: {response}\nClaim: This response is helpful\nI think this claim is"
)
_LABEL_FIELDS = {"gold": "labels", "human": "human_labels"}


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds a row's responses, a group; a response that repeats another one is left out."""
    prompt, texts = row.messages("prompt", "user"), row.texts("responses")
    if len(texts) < 2:
        raise InputError(
            f"{row.where}: the field 'responses' has one response, which is better than no other; "
            "give two or more"
        )
    group = row.id(index)
    known = {name: _labels(task, row, field, len(texts)) for name, field in _LABEL_FIELDS.items()}
    kept = [k for k, text in enumerate(texts) if text.strip() and texts.index(text) == k]
    if len(kept) < 2:
        data.left_out[group] = "whose responses are empty or all the same"
        return
    data.responses[group] = Responses(prompt, {f"{group}:{k}": texts[k] for k in kept})
    for k in kept:
        text = task.filled({"query": as_query(prompt), "response": texts[k]})
        of_response = {
            name: label for name, labels in known.items() if (label := labels[k]) is not None
        }
        add_example(data, Example(f"{group}:{k}", text, group, str(k)), of_response)


def _labels(task: Task, row: Row, field: str, count: int) -> list[Label | None]:
    """The labels of a row's responses, None where one is not known.

    Raises:
        InputError: They are not one for each response, or one is outside the task's label set.
    """
    labels = row.values.get(field)
    if labels is None:
        return [None] * count
    if not isinstance(labels, list) or len(labels) != count:
        raise InputError(f"{row.where}: the field '{field}' must be a list of {count} labels")
    return [Row(row.where, {field: label}).label(field, task.verbalizers) for label in labels]


TASK = Task("responses", TEMPLATE, add, unrelated, row_is_group=True)
