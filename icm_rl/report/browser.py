"""The labels as the page's browser shows them: who changed, who is in doubt, what differs."""

import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST_WORDS = 2000
"""Longer responses are shown without their difference, which takes the square of it to find."""


def label_data(rows: Sequence[Mapping[str, Any]], history: Iterable[Mapping[str, Any]]) -> dict:
    """The browser's data.

    Args:
        rows: Of ``labels.jsonl``.
        history: Of ``history.jsonl``: the iterations with their changes.

    Returns:
        ``examples``, for each its ``id``, ``group``, ``label``, ``log_odds``, ``gold`` where known,
        ``changes`` as [iteration or "the end", label], and ``doubt``, how much its group disagrees:
        of a pair, by how much the evidence of one order exceeds that of the other; of other groups,
        minus the lowest log-odds in it. Of claims the ``text``; of pairs ``first``, and under
        ``pairs``, by group, the ``query`` and both responses, each a list of [words, whether the
        other response has others].
    """
    changes = defaultdict(list)
    for record in history:
        for id, label in record.get("changes", {}).items():
            changes[id].append([record["iteration"], label])
    doubts = _doubts(rows)
    examples, pairs = [], {}
    for row in rows:
        example = {name: row[name] for name in ("id", "group", "label", "log_odds")}
        example |= {name: row[name] for name in ("gold",) if name in row}
        changed = changes[row["id"]]
        # what no iteration labeled is labeled in the end
        if not changed or changed[-1][1] != row["label"]:
            changed.append(["the end", row["label"]])
        example |= {"changes": changed, "doubt": doubts[row["group"]]}
        if "query" in row:
            if row["group"] not in pairs:
                first, second = compared(row["a"], row["b"])
                pairs[row["group"]] = {"query": row["query"], "a": first, "b": second}
            example["first"] = "a" if row["a"] == _words(pairs[row["group"]]["a"]) else "b"
        else:
            example["text"] = row["text"]
        examples.append(example)
    return {"examples": examples, "pairs": pairs}


def compared(one: str, other: str) -> tuple[list[list[Any]], list[list[Any]]]:
    """Two texts, each in pieces [words, whether the other text has others there]."""
    words: list[list[str]] = [re.findall(r"\s+|[^\s]+", text) for text in (one, other)]
    if max(map(len, words)) > _MOST_WORDS:
        return [[one, False]], [[other, False]]
    pieces: tuple[list, list] = ([], [])
    matcher = difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False)
    for tag, a_start, a_end, b_start, b_end in matcher.get_opcodes():
        for side, part in ((0, words[0][a_start:a_end]), (1, words[1][b_start:b_end])):
            if part:
                pieces[side].append(["".join(part), tag != "equal"])
    return pieces


def _words(pieces: Sequence[Sequence[Any]]) -> str:
    return "".join(words for words, _ in pieces)


def _doubts(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["group"]].append(row)
    doubts = {}
    for group, members in groups.items():
        if len(members) == 2 and "query" in members[0]:
            signed = [m["log_odds"] if m["label"] is True else -m["log_odds"] for m in members]
            doubts[group] = abs(sum(signed))
        else:
            doubts[group] = -min(member["log_odds"] for member in members)
    return doubts
