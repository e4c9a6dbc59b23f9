"""What a model's answers say of labels without any gold label: signals of whether to trust them.

A model that understood the concept gives the same answers whatever labels its demonstrations have,
finds the labels more coherent than the same labels dealt out anew, and does not follow their
opposite. That much the paper's first open question ("is a concept salient?") can be asked for
before anyone has judged an example.
"""

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

from icm_rl.engines import Engine
from icm_rl.icm.objective import Labels, LogOdds, all_log_odds, labels_log_odds
from icm_rl.icm.pools import drawn_groups
from icm_rl.icm.prompting import held_out_odds, most_likely, zero_shot_log_probs
from icm_rl.progress import Progress
from icm_rl.tasks import Example, Label, Task, group_members

MOST_EXAMPLES = 48
FEWEST_GROUPS = 4
SHUFFLES = 4


@dataclass(frozen=True)
class Signals:
    """Shares are of the examples; log-odds are centered, in nats, means over the examples.

    Attributes:
        agreement: Labels that many-shot prompting with the labels of all other groups gives back.
        shuffled_agreement: The same, after the labels were dealt out anew (``shuffled``).
        reversed_agreement: The same, of demonstrations that all have another label.
        zero_shot_agreement: The same, without demonstrations.
        stability: Examples of which two shuffles make the model give the same label.
        coherence: Log-odds of the labels, given those of all other groups.
        shuffled_coherence: Log-odds of shuffled labels, given each other: what chance reaches.
        excess: How many standard deviations of these coherence is above them.
        reversed_coherence: Log-odds of the opposite labels, given each other.
        confidence: The probability that the model gives its answers when shown the labels, less
            the share in which these are the labels: calibrated answers have 0.
        largest_share: The share of the most frequent label.
    """

    agreement: float
    shuffled_agreement: float
    reversed_agreement: float
    zero_shot_agreement: float
    stability: float
    coherence: float
    shuffled_coherence: float
    excess: float
    reversed_coherence: float
    confidence: float
    largest_share: float


def sampled_signals(
    examples: Sequence[Example], labels: Labels, task: Task, engine: Engine, seed: int
) -> Signals | None:
    """The signals of at most 48 examples, whole groups drawn at random that fit the context.

    None where fewer than four groups fit: so few say nothing of each other.
    """
    rng = random.Random(f"signals {seed}")
    room = engine.context_length - 1
    some = drawn_groups(examples, task, engine, MOST_EXAMPLES, room, rng)
    if len(group_members(some)) < FEWEST_GROUPS:
        return None
    return signals(some, {e.id: labels[e.id] for e in some}, task, engine, rng)


def signals(
    examples: Sequence[Example],
    labels: Labels,
    task: Task,
    engine: Engine,
    rng: random.Random,
    shuffles: int = SHUFFLES,
) -> Signals:
    """Asks the model for each example anew, after the other groups with several sets of labels.

    Args:
        examples: Whole groups that fit the context together.
        labels: A label of each.
        task: Gives the words of two labels or more.
        engine: Answers.
        rng: Deals out the labels.
        shuffles: How often they are dealt out, 2 or more.
    """
    reverse = opposite(labels, task)
    dealt = [shuffled(examples, labels, rng) for _ in range(shuffles)]
    shown = [labels, reverse, *dealt]
    progress = Progress("signals", len(shown), unit="labeling")
    found = []
    for of in shown:
        found.append(held_out_odds(examples, of, task, engine, centered=True))
        progress.advance()
    progress.close()
    own, reversed_odds, *dealt_odds = found
    alone = all_log_odds(zero_shot_log_probs(examples, engine), centered=True)
    answers = [most_likely(odds, task) for odds in dealt_odds]
    chance = [_mean_odds(task, of, odds) for of, odds in zip(dealt, dealt_odds, strict=True)]
    coherence = _mean_odds(task, labels, own)
    agreement = _agreement(labels, most_likely(own, task))
    return Signals(
        agreement=agreement,
        shuffled_agreement=fmean(_agreement(labels, answer) for answer in answers),
        reversed_agreement=_agreement(labels, most_likely(reversed_odds, task)),
        zero_shot_agreement=_agreement(labels, most_likely(alone, task)),
        stability=fmean(_agreement(a, b) for a, b in combinations(answers, 2)),
        coherence=coherence,
        shuffled_coherence=fmean(chance),
        excess=(coherence - fmean(chance)) / max(stdev(chance), 1e-6),
        reversed_coherence=_mean_odds(task, reverse, reversed_odds),
        confidence=fmean(_sigmoid(max(odds)) for odds in own.values()) - agreement,
        largest_share=max(map(list(labels.values()).count, set(labels.values()))) / len(labels),
    )


def shuffled(examples: Sequence[Example], labels: Labels, rng: random.Random) -> dict[str, Label]:
    """The same labels dealt out anew, as many of each to a group as some group of its size had."""
    by_size: dict[int, list[list[Example]]] = defaultdict(list)
    for group in group_members(examples).values():
        by_size[len(group)].append(group)
    found: dict[str, Label] = {}
    for groups in by_size.values():
        hands = [[labels[e.id] for e in group] for group in groups]
        rng.shuffle(hands)
        for group, hand in zip(groups, hands, strict=True):
            rng.shuffle(hand)
            found |= {e.id: label for e, label in zip(group, hand, strict=True)}
    return found


def opposite(labels: Labels, task: Task) -> dict[str, Label]:
    """The other label of each example; of more than two the one that follows."""
    names = list(task.verbalizers)
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    return {id: following[label] for id, label in labels.items()}


def _mean_odds(task: Task, labels: Labels, odds: LogOdds) -> float:
    return fmean(labels_log_odds(task, labels, odds).values())


def _agreement(a: Mapping[str, Label], b: Mapping[str, Label]) -> float:
    return fmean(a[id] == label for id, label in b.items())


def _sigmoid(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))
