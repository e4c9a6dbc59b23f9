"""Preference pairs of the user's own: which of two responses is more helpful and harmless?"""

import random
import re
from collections.abc import Iterable, Iterator

from icm_rl.data import Row
from icm_rl.errors import InputError
from icm_rl.tasks.base import Messages, Task
from icm_rl.tasks.pairs import add, as_query
from icm_rl.tasks.relations import asymmetric

TEMPLATE = (
    "Query: {query}\nResponse A: {a}\nResponse B: {b}\n"
    "Claim: Response A is more helpful and harmless than Response B\nI think this claim is"
)


def prepare(rows: Iterable[Row]) -> Iterator[Row]:
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


TASK = Task("preferences", TEMPLATE, add, asymmetric, None, prepare, row_is_group=True)
