"""What the miniature's base model can do: judging by each criterion, in context and at zero shot.

Every figure is over freshly drawn pools. U of the gold labels must stand clearly above U of the
labels by any other criterion, or ICM has nothing to find.
"""

import random
from dataclasses import dataclass
from itertools import chain
from statistics import mean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from icm_rl.engines import Engine, LocalEngine, Request
from icm_rl.icm.objective import Scorer, all_log_odds
from icm_rl.icm.prompting import (
    accuracy,
    many_shot,
    most_likely,
    random_labels,
    zero_shot_log_probs,
)
from icm_rl.miniature import corpus
from icm_rl.miniature.world import World
from icm_rl.progress import Progress
from icm_rl.tasks import TASKS, Example, Task
from icm_rl.tasks.base import TRUE_FALSE

POOL_SIZES = {"facts": 80, "solutions": 64, "preferences": 48}
_TASKS = {"facts": "truthfulqa", "solutions": "gsm8k", "preferences": "preferences"}
_JUDGED = ("truth", "reverse", "length", "manners", "always_true")


@dataclass(frozen=True)
class Pool:
    """Drawn examples with their labels by each criterion."""

    examples: list[Example]
    labels: dict[str, dict[str, bool]]


def draw_pool(world: World, task: str, size: int, rng: random.Random) -> Pool:
    """A pool of whole groups of the task: both orders of a pair, four answers to a question."""
    draw = corpus.groups_for_task(world, task, rng)
    examples: list[Example] = []
    labels: dict[str, dict[str, bool]] = {name: {} for name in _JUDGED}
    group = 0
    while len(examples) < size:
        for item in draw(4):
            if isinstance(item, corpus.Comparison):
                key = f"{item.a.text}>{item.b.text}"
            else:
                key = item.response.core.split()[-1]
            example = Example(str(len(examples)), item.prompt, str(group), key)
            examples.append(example)
            for name, judged in labels.items():
                judged[example.id] = corpus.JUDGES[name](item, rng)
        group += 1
    return Pool(examples, labels)


def judge_pools(
    world: World, engine: Engine, task: str, seeds: int = 5, size: int | None = None
) -> dict[str, dict[str, float]]:
    """In-context accuracy and U by criterion, mean over ``seeds`` pools of the task.

    Returns:
        ``many_shot`` accuracy for each criterion when the context is judged by it, ``utility`` of
        its labels, ``after_16`` the accuracy on a list's items after the first 16, and under
        ``baselines`` the ``zero_shot`` and ``random_labels`` accuracies.
    """
    found: dict[str, dict[str, list[float]]] = {}

    def note(table: str, name: str, value: float | None) -> None:
        assert value is not None  # gold labels are known of every example here
        found.setdefault(table, {}).setdefault(name, []).append(value)

    progress = Progress(f"measure {task}", seeds, unit="pool")
    for seed in range(seeds):
        rng = random.Random(f"judge {task} {seed}")
        pool = draw_pool(world, task, size or POOL_SIZES[task], rng)
        kind = TASKS[_TASKS[task]]
        scorer = Scorer(pool.examples, kind, engine)
        gold = pool.labels["truth"]
        zero_shot = most_likely(all_log_odds(zero_shot_log_probs(pool.examples, engine)), kind)
        note("baselines", "zero_shot", accuracy(zero_shot, gold))
        shots = many_shot(pool.examples, random_labels(pool.examples, kind, rng), kind, engine)
        note("baselines", "random_labels", accuracy(shots, gold))
        for name, labels in pool.labels.items():
            shots = many_shot(pool.examples, labels, kind, engine)
            note("many_shot", name, accuracy(shots, labels))
            note("utility", name, scorer.score(labels, scorer.arranged(labels)).utility)
            if name in ("length", "reverse"):
                note("after_16", name, _after(pool, labels, kind, engine))
        progress.advance()
    progress.close()
    return {
        table: {name: mean(values) for name, values in rows.items()}
        for table, rows in found.items()
    }


def _after(
    pool: Pool, labels: dict[str, bool], task: Task, engine: Engine, first: int = 16
) -> float:
    """Accuracy on each later item of a list, given all items before it with their labels."""
    shown = [task.demonstration(e, labels[e.id]) for e in pool.examples]
    later = range(first, len(shown))
    requests = [
        Request(tuple(chain.from_iterable(shown[:k])), pool.examples[k].text) for k in later
    ]
    answers = engine.label_log_probs(requests)
    predicted = {
        pool.examples[k].id: task.most_likely(answer)
        for k, answer in zip(later, answers, strict=True)
    }
    right = accuracy(predicted, labels)
    assert right is not None
    return right


def evaluate(
    world: World, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, dict[str, dict[str, float]]]:
    """All figures of the model card, by task."""
    engine = LocalEngine(model, tokenizer, list(TRUE_FALSE.values()))
    return {task: judge_pools(world, engine, task) for task in POOL_SIZES}
