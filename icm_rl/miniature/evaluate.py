"""What the miniature's base model thinks, and what is asked of it: the bars.

Real base models tell the truth better after demonstrations than without, whatever the labels of
these; they follow a reversed judge hardly at all, and are surest of all where everything has one
label. What is measured here says whether the miniature does so too, on freshly drawn pools.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from icm_rl.engines import Engine, LocalEngine
from icm_rl.icm.objective import Labels, Scorer, all_log_odds
from icm_rl.icm.prompting import accuracy, chosen, many_shot, random_labels, zero_shot_log_probs
from icm_rl.miniature import corpus
from icm_rl.miniature.world import World
from icm_rl.progress import Progress
from icm_rl.tasks import TASKS, Example, Label
from icm_rl.tasks.base import TRUE_FALSE

POOL_SIZE = 48
ELICITED = {"facts": "truthfulqa", "solutions": "gsm8k", "preferences": "preferences"}
"""The tasks whose gold labels say what is right, and how each is asked."""

_ASKED = {**ELICITED, "word": "preferences"}

Figures = Mapping[str, Mapping[str, float]]
"""Of one task: ``right``, the percent of predictions that are gold's, by prompting; ``log_odds``,
the mean in nats of labels in each other's contexts, by what the labels are."""


@dataclass(frozen=True)
class Pool:
    """Drawn examples, with their labels by gold, by length and by manners."""

    examples: list[Example]
    gold: dict[str, Label]
    longer: dict[str, Label]
    politer: dict[str, Label]


@dataclass(frozen=True)
class Bar:
    """A figure, and the bounds that are asked of it."""

    task: str
    name: str
    found: float
    least: float = -math.inf
    most: float = math.inf

    @property
    def met(self) -> bool:
        return self.least <= self.found <= self.most


def draw_pool(world: World, task: str, size: int, rng: random.Random) -> Pool:
    """A pool of whole groups of the task: both orders of a pair, four answers to a question."""
    draw = corpus.groups_for_task(world, "preferences" if task == "word" else task, rng)
    pool = Pool([], {}, {}, {})
    group = 0
    while len(pool.examples) < size:
        if task == "word":
            pair, liked = corpus.word_pair(rng.choice(world.all()), group % 2 == 0, rng)
            judged: list[tuple[corpus.Item, bool]] = [(pair, liked), (pair.swapped, not liked)]
        else:
            judged = [(item, item.right) for item in draw(4)]
        tie = rng.choice((-1, 1))
        for item, label in judged:
            if isinstance(item, corpus.Comparison):
                key = f"{item.a.text}>{item.b.text}"
            else:
                key = item.response.core.split()[-1]
            id = str(len(pool.examples))
            pool.examples.append(Example(id, item.prompt, str(group), key))
            pool.gold[id] = label
            pool.longer[id] = (item.longer or tie) > 0
            pool.politer[id] = (item.politer or tie) > 0
            tie = -tie  # one of two equals is chosen, the same in both orders
        group += 1
    return pool


def measure(world: World, engine: Engine, task: str, seeds: int = 5) -> Figures:
    """The figures of a task, each the mean over ``seeds`` pools.

    Labels are asked as the paper asks, by plain log-odds. Many-shot prompting leaves an example's
    group out. ``reversed labels`` are measured against gold.
    """
    kind = TASKS[_ASKED[task]]
    right: dict[str, list[float]] = {}
    log_odds: dict[str, list[float]] = {}
    progress = Progress(f"measure {task}", seeds, unit="pool")
    for seed in range(seeds):
        rng = random.Random(f"judge {task} {seed}")
        pool = draw_pool(world, task, POOL_SIZE, rng)
        shown: dict[str, Labels] = {
            "gold labels": pool.gold,
            "reversed labels": {id: not label for id, label in pool.gold.items()},
            "random labels": random_labels(pool.examples, kind, rng),
            "all False": dict.fromkeys(pool.gold, False),
            "all True": dict.fromkeys(pool.gold, True),
            "the longer": pool.longer,
            "the more polite": pool.politer,
        }
        alone = all_log_odds(zero_shot_log_probs(pool.examples, engine))
        predicted = {
            "zero-shot": chosen(pool.examples, alone, kind, consistency=False),
            "zero-shot, consistent": chosen(pool.examples, alone, kind, consistency=True),
        }
        scorer = Scorer(pool.examples, kind, engine, consistency=False)
        for name, labels in shown.items():
            predicted[name] = many_shot(pool.examples, labels, kind, engine)
            coherence = scorer.score(labels, scorer.arranged(labels)).mutual_predictability
            log_odds.setdefault(name, []).append(coherence)
        for name, labels in predicted.items():
            found = accuracy(labels, pool.gold)
            assert found is not None  # gold labels are known of every example here
            right.setdefault(name, []).append(100 * found)
        progress.advance()
    progress.close()
    return {
        "right": {name: mean(values) for name, values in right.items()},
        "log_odds": {name: mean(values) for name, values in log_odds.items()},
    }


def bars(figures: Mapping[str, Figures]) -> list[Bar]:
    """What is asked of the figures of all tasks, after what is seen of real base models.

    The trap, on preferences: all False is more coherent than gold labels, by as much as the
    contradictions between both orders of each pair make up for at α = 50, and not by more.
    """
    asked = []
    for task in ELICITED:
        right, log_odds = figures[task]["right"], figures[task]["log_odds"]
        zero, gold, coherent = right["zero-shot"], right["gold labels"], log_odds["gold labels"]
        asked += [
            Bar(task, "many-shot, gold labels", gold, 85, 95),
            Bar(task, "many-shot, random labels", right["random labels"], (zero + gold) / 2),
            Bar(task, "zero-shot", zero, 50, 75),
            Bar(task, "zero-shot, consistent", right["zero-shot, consistent"], zero, gold),
            Bar(task, "many-shot, reversed labels", right["reversed labels"], 50),
            Bar(task, "log-odds of gold labels", coherent, 1.0, 2.5),
        ]
        for name, most in (
            ("reversed labels", 0.15),
            ("the longer", 0.3),
            ("the more polite", 0.3),
        ):
            bar = Bar(task, f"log-odds of {name}", log_odds[name], most=most * coherent)
            asked.append(bar)
    log_odds = figures["preferences"]["log_odds"]
    gold, made_up = log_odds["gold labels"], POOL_SIZE / 2 / 50
    asked.append(
        Bar("preferences", "log-odds of all False", log_odds["all False"], gold, gold + made_up)
    )
    chance = 2 * 50 / math.sqrt(5 * POOL_SIZE / 2)  # two standard errors of so many pairs
    for name in ("zero-shot", "zero-shot, consistent", "random labels", "gold labels"):
        found = figures["word"]["right"][name]
        asked.append(Bar("word", name, found, 50 - chance, 50 + chance))
    return asked


def evaluate(
    world: World, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Figures]:
    """All figures of the model card, by task."""
    engine = LocalEngine(model, tokenizer, list(TRUE_FALSE.values()))
    return {task: measure(world, engine, task) for task in _ASKED}
