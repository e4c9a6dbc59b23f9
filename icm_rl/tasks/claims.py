"""Claims, one a row, in the user's own words: a template whose placeholders are columns."""

from icm_rl.data import Row
from icm_rl.tasks.base import Dataset, Example, Task, add_example
from icm_rl.tasks.relations import same_key


def add(task: Task, data: Dataset, row: Row, index: int) -> None:
    """Adds a row's claim: the template's placeholders are columns."""
    text, id = task.render(row.text), row.id(index)
    group = row.text(task.group_column) if task.group_column else id
    key = row.text(task.key_column) if task.key_column else text
    add_example(data, Example(id, text, group, key), task.known_labels(row))


TASK = Task("claims", "{claim}\nI think this claim is", add, same_key)
