"""ConsistencyFix (Algorithm 2 of the paper) and ConsistencyFix-MaxProb (Algorithm 4)."""

import random
from collections.abc import Sequence
from itertools import product
from typing import Literal

from icm_rl.icm.objective import Arrangement, Labels, LogOdds, Score, Scorer
from icm_rl.tasks import Example, Label, Task, group_members

FixOptions = Literal["all", "one_change"]


def consistency_fix(
    scorer: Scorer,
    labels: Labels,
    arrangement: Arrangement,
    rng: random.Random,
    max_rounds: int = 10,
    group: str | None = None,
    options: FixOptions = "all",
    at_any_cost: bool = False,
) -> tuple[dict[str, Label], Score]:
    """Resolves inconsistent pairs one after the other by the consistent option of highest U.

    Each round samples one inconsistent pair, scores the labeled set under the consistent pairs of
    labels for it, and keeps the best where it does not lower U. A pair for which every option
    lowers U, or for which there is none, is not tried again until other labels change.

    Args:
        scorer: Scores labeled sets.
        labels: The labels to be fixed; not changed.
        arrangement: The order of their examples in each other's contexts.
        rng: Samples the pair.
        max_rounds: M of Algorithm 2.
        group: The one whose pairs are resolved; by default all are.
        options: Which labels a pair is tried with: ``all`` that are consistent, or ``one_change``,
            those that differ from its own in one of the two: two answers that cannot both be True
            are then never both made False at once.
        at_any_cost: Whether the first pair gets the best of its options even where that lowers U.

    Returns:
        The fixed labels and their score.
    """
    fixed = dict(labels)
    refused: set[tuple[Example, Example]] = set()
    for _ in range(max_rounds):
        pairs = [pair for pair in scorer.inconsistent_pairs(fixed, group) if pair not in refused]
        if not pairs:
            break
        a, b = rng.choice(pairs)
        tried = [
            {**fixed, a.id: label_a, b.id: label_b}
            for label_a, label_b in product(scorer.task.verbalizers, repeat=2)
            if scorer.task.consistent(a, label_a, b, label_b)
            and (options == "all" or (label_a == fixed[a.id]) != (label_b == fixed[b.id]))
        ]
        *scores, current = scorer.scores([*tried, fixed], arrangement)
        best = max(range(len(tried)), key=lambda k: scores[k].utility, default=None)
        if best is not None and (at_any_cost or scores[best].utility >= current.utility):
            fixed, refused, at_any_cost = tried[best], set(), False
        else:
            refused.add((a, b))
    return fixed, scorer.score(fixed, arrangement)


def consistency_fix_maxprob(
    examples: Sequence[Example], task: Task, odds: LogOdds, given: Labels | None = None
) -> dict[str, Label]:
    """The most probable labels, made consistent from the most confident one on (Algorithm 4).

    In each group the examples are taken up by confidence. Each gets its most probable label of
    those that contradict the fewest taken up before it. In a pair this is Algorithm 4 to the
    letter; of a larger group, Algorithm 4 heeds only the most confident example, which may leave
    others in contradiction.

    Args:
        examples: Whole consistency groups.
        task: Gives the labels and the relation.
        odds: For each example the log-odds of each label.
        given: Labels that stand; those examples need no log-odds.
    """
    names = list(task.verbalizers)
    labels = dict(given or {})
    for members in group_members(examples).values():
        fixed = [(e, labels[e.id]) for e in members if e.id in labels]
        asked = [e for e in members if e.id not in labels]
        for example in sorted(asked, key=lambda e: -max(odds[e.id])):
            of_labels = dict(zip(names, odds[example.id], strict=True))

            def fit(label, example=example, fixed=fixed, of_labels=of_labels):
                agrees = sum(task.consistent(example, label, a, of_a) for a, of_a in fixed)
                return agrees, of_labels[label]

            fixed.append((example, max(reversed(names), key=fit)))
        labels |= {example.id: label for example, label in fixed}
        if asked and task.some_true and not any(labels[e.id] for e in members):
            labels[max(asked, key=lambda e: odds[e.id][names.index(True)]).id] = True
    return {example.id: labels[example.id] for example in examples}
