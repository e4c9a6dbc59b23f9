"""The tasks that ICM labels, by name."""

import json
from collections.abc import Mapping
from dataclasses import replace
from string import Formatter
from typing import Any

from icm_rl.errors import InputError
from icm_rl.tasks import (
    alpaca,
    author_gender,
    claims,
    grades,
    gsm8k,
    hhh,
    poems,
    preferences,
    responses,
    truthfulqa,
)
from icm_rl.tasks.base import TRUE_FALSE, Dataset, Example, Label, Pair, Task, group_members
from icm_rl.tasks.relations import OF_TRUE_AND_FALSE, exactly_one, load_relation

PAIR_TASKS = {
    module.TASK.name: module.TASK for module in (preferences, hhh, alpaca, author_gender, poems)
}
RESPONSE_TASKS = {module.TASK.name: module.TASK for module in (responses, grades)}
PREFERENCE_TASKS = PAIR_TASKS | RESPONSE_TASKS
"""The tasks whose labels make preferences."""

TASKS = PREFERENCE_TASKS | {module.TASK.name: module.TASK for module in (truthfulqa, gsm8k, claims)}

__all__ = [
    "PAIR_TASKS",
    "PREFERENCE_TASKS",
    "RESPONSE_TASKS",
    "TASKS",
    "TRUE_FALSE",
    "Dataset",
    "Example",
    "Label",
    "Pair",
    "Task",
    "configured",
    "group_members",
]


def configured(
    name: str,
    template: str | None = None,
    verbalizers: Mapping[Label, str] | str | None = None,
    relation: str | None = None,
    group_column: str | None = None,
    key_column: str | None = None,
    highest_grade: int | None = None,
) -> Task:
    """A task with the user's own settings in place of its own.

    Args:
        name: A name in ``TASKS``.
        template: An example's text with ``{placeholders}``: columns of a claim's row, or ``query``,
            ``a`` and ``b`` of a pair.
        verbalizers: For each label the words that stand for it, or the same as a JSON object.
        relation: A relation's name, or ``FILE.py:FUNCTION``.
        group_column: The column that names a claim's group.
        key_column: The column of what a claim asserts in its group.
        highest_grade: N, of the task ``grades``.

    Raises:
        InputError: A setting is malformed, or does not go with the task or with the others.
    """
    task = TASKS[name]
    changes: dict[str, Any] = {}
    if template is not None:
        _check_template(template)
        changes["template"] = template
    if verbalizers is not None:
        changes["verbalizers"] = _verbalizers(verbalizers)
    if relation is not None:
        changes["consistent"] = load_relation(relation)
        changes["some_true"] = changes["consistent"] is exactly_one
    for flag, column in (("group_column", group_column), ("key_column", key_column)):
        if column is not None:
            if name in PREFERENCE_TASKS:
                raise InputError(f"--{flag} is for tasks of claims; '{name}' has prompts")
            changes[flag] = column
    if highest_grade is not None:
        if name != grades.TASK.name:
            raise InputError(f"--highest_grade is for --task grades, not {name}; drop it")
        changes["highest_grade"] = highest_grade
    task = replace(task, **changes)
    if set(task.verbalizers) != set(TRUE_FALSE) and (
        name in PREFERENCE_TASKS or task.consistent in OF_TRUE_AND_FALSE
    ):
        raise InputError(
            f"--verbalizers: the task '{name}' and its relation need the labels True and False; "
            "other labels are for --task claims with --relation same_key, asymmetric or your own"
        )
    return task


def _check_template(template: str) -> None:
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise InputError(f"--template cannot be read ({error}); write {{{{ for a brace") from None
    if not any(names) or "" in names:
        raise InputError("--template needs {placeholders} with names, such as {question}")


def _verbalizers(words: Mapping[Label, str] | str) -> dict[Label, str]:
    if isinstance(words, str):
        try:
            words = json.loads(words)
        except json.JSONDecodeError as error:
            raise InputError(f"--verbalizers is not JSON ({error.msg})") from None
    if not isinstance(words, dict) or len(words) < 2:
        raise InputError(
            "--verbalizers must map two labels or more to what stands for them, such as "
            '{"yes": " Yes", "no": " No"}'
        )
    for label, continuation in words.items():
        if not isinstance(continuation, str) or not continuation.strip():
            raise InputError(f"--verbalizers: '{label}' must stand for text, not {continuation!r}")
    of_truth = {"true": True, "false": False}
    return {of_truth.get(str(label).lower(), str(label)): text for label, text in words.items()}
