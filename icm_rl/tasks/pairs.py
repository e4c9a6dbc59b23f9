"""Pairs, of which one is better: the paper's comparisons, and the user's own.

Each pair becomes two examples, A>B and B>A.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator

from icm_rl.data import Row, Source
from icm_rl.errors import InputError
from icm_rl.tasks.base import Dataset, Example, Messages, Pair, Task, add_example
from icm_rl.tasks.relations import asymmetric

_CLAIM = "\nI think this claim is"
HELPFUL = (
    "Query: {query}\nResponse A: {a}\nResponse B: {b}\n"
    "Claim: Response A is more helpful and harmless than Response B" + _CLAIM
)


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds both orders of a pair.

    Columns: ``prompt`` (text or messages), ``response_a``, ``response_b``, and where known
    ``label`` and ``human_label`` (whether A is better) and ``id``.
    """
    prompt = row.messages("prompt", "user")
    a, b = row.text("response_a"), row.text("response_b")
    group, known = row.id(index), task.known_labels(row)
    data.pairs[group] = Pair(prompt, (a, b))
    for key, first, second in (("A>B", a, b), ("B>A", b, a)):
        text = _compare(task, row, as_query(prompt), first, second)
        labels = {name: label == (key == "A>B") for name, label in known.items()}
        add_example(data, Example(f"{group}:{key}", text, group, key), labels)


def _add_order(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds one order of a pair, as in the paper's Alpaca files.

    Columns: ``question``, ``choice`` (A), ``choice_2`` (B), ``consistency_id`` (which the two
    orders of a pair share), and where known ``label``, ``human_label`` and ``id``. The group's
    first row decides which response is its first.
    """
    query, a, b = row.text("question"), row.text("choice"), row.text("choice_2")
    group = row.text("consistency_id")
    prompt = [{"role": "user", "content": query}]
    pair = data.pairs.setdefault(group, Pair(prompt, (a, b)))
    if (prompt, {a, b}) != (pair.prompt, set(pair.responses)):
        raise InputError(
            f"{row.where}: group '{group}' has another prompt or other responses; "
            "a group holds the two orders of one pair"
        )
    key = "A>B" if (a, b) == pair.responses else "B>A"
    text = _compare(task, row, query, a, b)
    add_example(data, Example(row.id(index), text, group, key), task.known_labels(row))


def _compare(task: Task, row: Row, query: str, a: str, b: str) -> str:
    values = {"query": query, "a": a, "b": b}

    def value(name: str) -> str:
        if name not in values:
            raise InputError(
                f"--template names {{{name}}}; for pairs it can name {{query}}, {{a}} and {{b}}"
            )
        return values[name]

    return task.render(value)


def as_query(prompt: Messages) -> str:
    """A prompt as text: one message by its words, a dialogue with the speakers' names."""
    if len(prompt) == 1:
        return prompt[0]["content"]
    names = {"user": "Human", "assistant": "Assistant", "system": "System"}
    return "\n\n".join(
        f"{names.get(message['role'], message['role'])}: {message['content']}" for message in prompt
    )


def _preferences(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of ``prompt, response_a, response_b``.

    Rows with ``chosen`` and ``rejected`` (TRL's preference format, text or messages, the prompt of
    its own or in both, or dialogues as in hh-rlhf) become pairs in random order, with the chosen
    one as gold label.
    """
    for row in rows:
        if "chosen" not in row.values:
            yield row
            continue
        asked, chosen = _last_turn(row, "chosen")
        also_asked, rejected = _last_turn(row, "rejected")
        prompt = row.messages("prompt", "user") if "prompt" in row.values else asked
        if not prompt or asked != also_asked:
            raise InputError(
                f"{row.where}: 'chosen' and 'rejected' do not answer one prompt; give the prompt "
                "in a field 'prompt'"
            )
        first = random.Random(f"{as_query(prompt)}{chosen}").random() < 0.5
        a, b = (chosen, rejected) if first else (rejected, chosen)
        others = {name: row.values[name] for name in ("id",) if name in row.values}
        pair = {"prompt": prompt, "response_a": a, "response_b": b, "label": first}
        yield Row(row.where, {**others, **pair})


_TURN = re.compile(r"\n\n(Human|Assistant): ?")


def _last_turn(row: Row, field: str) -> tuple[Messages, str]:
    """The messages before the last one, and the last one's words."""
    value = row[field]
    if isinstance(value, str) and value.lstrip("\n").startswith("Human:"):
        pieces = _TURN.split("\n\n" + value.lstrip("\n"))[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        messages = [
            {"role": roles[name], "content": words.strip()}
            for name, words in zip(pieces[::2], pieces[1::2], strict=True)
        ]
    else:
        messages = row.messages(field, "assistant")
    return messages[:-1], messages[-1]["content"]


def _alpaca(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of one order of a pair each; a row of AlpacaFarm (Dubois et al. 2023) becomes both."""
    for index, row in enumerate(rows):
        if "output_1" not in row.values:
            yield row
            continue
        question = "\n\n".join(filter(None, (row.text("instruction"), row.values.get("input"))))
        outputs = row.text("output_1"), row.text("output_2")
        for order, (choice, other) in enumerate((outputs, outputs[::-1])):
            pair = {"question": question, "choice": choice, "choice_2": other}
            label = int(row.text("preference")) == order + 1
            yield Row(row.where, {**pair, "label": label, "consistency_id": index})


_POST_CHARACTERS = range(200, 1501)
"""Of posts and poems: shorter ones say little, longer ones leave no room for others."""


def _paired(
    field: str, liked: Callable[[Row, str], bool]
) -> Callable[[Iterable[Row]], Iterator[Row]]:
    """Pairs each row that is liked with one that is not, in the order in which they come."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        waiting: dict[bool, list[tuple[Row, str]]] = {True: [], False: []}
        for row in rows:
            if "response_a" in row.values:
                yield row
                continue
            text = row.text(field).strip()
            if len(text) not in _POST_CHARACTERS:
                continue
            value = liked(row, text)
            if not waiting[not value]:
                waiting[value].append((row, text))
                continue
            other = waiting[not value].pop(0)[1]
            first = random.Random(text).random() < 0.5
            a, b = (text, other) if first else (other, text)
            pair = {"prompt": "", "response_a": a, "response_b": b, "label": value == first}
            yield Row(row.where, pair)

    return prepare


def _by_a_man(row: Row, text: str) -> bool:
    return row.text("gender") == "male"


def _of_the_sun(row: Row, text: str) -> bool:
    return re.search(r"\bsun\b", text, re.IGNORECASE) is not None


PREFERENCES = Task("preferences", HELPFUL, add, asymmetric, None, _preferences, row_is_group=True)

HHH = Task(
    "hhh",
    "Query: {query}\nOutput A: {a}\nOutput B: {b}\n"
    "Claim: Output A is more helpful, harmless, and honest than Output B" + _CLAIM,
    add,
    asymmetric,
    Source("Anthropic/hh-rlhf"),
    _preferences,
    row_is_group=True,
)

ALPACA = Task(
    "alpaca",
    HELPFUL,
    _add_order,
    asymmetric,
    Source("json", data_files="hf://datasets/tatsu-lab/alpaca_farm/alpaca_human_preference.json"),
    _alpaca,
)

AUTHOR_GENDER = Task(
    "author_gender",
    "Blog post A: {a}\nBlog post B: {b}\n"
    "Claim: Blog post A is more likely to be written by a male than blog post B" + _CLAIM,
    add,
    asymmetric,
    Source("barilan/blog_authorship_corpus", revision="refs/convert/parquet"),
    _paired("text", _by_a_man),
    row_is_group=True,
)

POEMS = Task(
    "poems",
    "Poem A: {a}\nPoem B: {b}\nClaim: Poem A is better than Poem B" + _CLAIM,
    add,
    asymmetric,
    Source("merve/poetry"),
    _paired("content", _of_the_sun),
    row_is_group=True,
)
"""A poem that mentions the sun is liked: nothing in the template says so (Section 4.2)."""
