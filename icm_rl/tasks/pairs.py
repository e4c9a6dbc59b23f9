"""What tasks of pairs share: each pair becomes two examples, A>B and B>A."""

import random
from collections.abc import Callable, Iterable, Iterator

from icm_rl.data import Row, unusable
from icm_rl.tasks.base import Dataset, Example, Messages, Pair, Task, add_example


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds both orders of a pair.

    Columns: ``prompt`` (text or messages), ``response_a``, ``response_b``, and where known
    ``label`` and ``human_label`` (whether A is better) and ``id``.
    """
    prompt = row.messages("prompt", "user")
    a, b = row.text("response_a"), row.text("response_b")
    group, known = row.id(index), task.known_labels(row)
    if leaves_out(data, group, a, b):
        return
    data.pairs[group] = Pair(prompt, (a, b))
    for key, first, second in (("A>B", a, b), ("B>A", b, a)):
        text = compare(task, as_query(prompt), first, second)
        labels = {name: label == (key == "A>B") for name, label in known.items()}
        add_example(data, Example(f"{group}:{key}", text, group, key), labels)


def leaves_out(data: Dataset, group: str, a: str, b: str) -> bool:
    """Whether two responses prefer nothing; the data set notes why."""
    reason = unusable(a, b)
    if reason:
        data.left_out[group] = reason
    return reason is not None


def compare(task: Task, query: str, a: str, b: str) -> str:
    """The template with a query and two responses.

    Raises:
        InputError: The template names something else.
    """
    return task.filled({"query": query, "a": a, "b": b})


def as_query(prompt: Messages) -> str:
    """A prompt as text: one message by its words, a dialogue with the speakers' names."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "\n\n".join(
        f"{names.get(message['role'], message['role'])}: {message['content']}" for message in prompt
    )


_POST_CHARACTERS = range(200, 1501)
"""How long posts and poems are: shorter ones say little, longer ones crowd out others."""


def paired(
    field: str, liked: Callable[[Row, str], bool]
) -> Callable[[Iterable[Row]], Iterator[Row]]:
    """Pairs each row that is liked with one that is not, in the order in which they come."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        waiting: dict[bool, list[str]] = {True: [], False: []}
        for row in rows:
            if "response_a" in row.values:
                yield row
                continue
            text = row.text(field).strip()
            if len(text) not in _POST_CHARACTERS:
                continue
            value = liked(row, text)
            if not waiting[not value]:
                waiting[value].append(text)
                continue
            other = waiting[not value].pop(0)
            first = random.Random(text).random() < 0.5
            a, b = (text, other) if first else (other, text)
            pair = {"prompt": "", "response_a": a, "response_b": b, "label": value == first}
            yield Row(row.where, pair)

    return prepare
