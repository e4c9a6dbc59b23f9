"""The tasks that ICM labels, by name."""

from icm_rl.tasks import alpaca, gsm8k, preferences, truthfulqa
from icm_rl.tasks.base import Dataset, Example, Label, Pair, Task, group_members

TASKS = {task.name: task for task in (truthfulqa.TASK, gsm8k.TASK, alpaca.TASK, preferences.TASK)}

__all__ = ["TASKS", "Dataset", "Example", "Label", "Pair", "Task", "group_members"]
