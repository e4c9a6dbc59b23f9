"""The scoring function U(D) = α · P_θ(D) − I(D) (Section 2.2 of the paper)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain, combinations
from statistics import fmean
from typing import Literal

from icm_rl.engines import Engine, Request
from icm_rl.tasks import Example, Label, Task, group_members

Labels = Mapping[str, Label]
"""Labels by example id."""

Objective = Literal["centered", "mean_log_odds", "sum_log_prob"]

LogProbs = Mapping[str, Sequence[float]]
"""For each example, by its id, the log-probability of each label."""

LogOdds = dict[str, tuple[float, ...]]
"""For each example, by its id, the log-odds of each label against all others together."""

ContextOrder = Literal["tree", "fixed"]


@dataclass(frozen=True)
class Score:
    """U of a labeled set and what it is made of.

    Attributes:
        utility: α · mutual_predictability − inconsistencies.
        mutual_predictability: P_θ(D), in the form that the objective names.
        inconsistencies: I(D), the number of inconsistent pairs; 0 where consistency is off.
        log_probs: For each example, the log-probability of each label given all the others.
    """

    utility: float
    mutual_predictability: float
    inconsistencies: int
    log_probs: dict[str, Sequence[float]]


def log_odds(log_probs: Sequence[float], index: int) -> float:
    """The label's log-probability less that of all other labels together."""
    others = [*log_probs[:index], *log_probs[index + 1 :]]
    highest = max(others)
    return log_probs[index] - (
        highest + math.log(sum(math.exp(other - highest) for other in others))
    )


def all_log_odds(log_probs: LogProbs, centered: bool = False) -> LogOdds:
    """The log-odds of each example's labels.

    Args:
        log_probs: For each example the log-probability of each label.
        centered: Whether each label's are taken less their center over these examples: what the
            model thinks of the label whatever the example, which says nothing of this one.
    """
    odds = {
        id: tuple(log_odds(values, index) for index in range(len(values)))
        for id, values in log_probs.items()
    }
    return less(odds, label_centers(odds)) if centered else odds


def label_centers(odds: LogOdds) -> tuple[float, ...]:
    """For each label, where its log-odds part into those of examples that have it and have not."""
    return tuple(map(center, zip(*odds.values(), strict=True)))


def center(values: Sequence[float]) -> float:
    """Midway between the means of the two groups that a threshold parts best (Otsu 1979).

    Best is the split of greatest variance between the groups, each counted by its size, so that the
    groups need not be equally large, as they would have to be for the mean.
    """
    ordered = sorted(values)
    sums, total = list(accumulate(ordered)), sum(ordered)
    count = len(ordered)
    splits = [(sums[k - 1] / k, (total - sums[k - 1]) / (count - k), k) for k in range(1, count)]
    if not splits:
        return ordered[0]
    low, high, _ = max(splits, key=lambda s: s[2] * (count - s[2]) * (s[1] - s[0]) ** 2)
    return (low + high) / 2


def less(odds: LogOdds, means: Sequence[float]) -> LogOdds:
    """The log-odds less those of each label that are given."""
    return {
        id: tuple(value - mean for value, mean in zip(values, means, strict=True))
        for id, values in odds.items()
    }


def labels_log_odds(task: Task, labels: Labels, odds: LogOdds) -> dict[str, float]:
    """How sure each label is: its log-odds, by example id.

    Args:
        task: Gives the order of the labels.
        labels: The labels.
        odds: For each example the log-odds of each label.
    """
    index = {label: index for index, label in enumerate(task.verbalizers)}
    return {id: odds[id][index[label]] for id, label in labels.items()}


def separation(task: Task, labels: Labels, odds: LogOdds) -> float:
    """How far labels part their log-odds: what ``center`` makes greatest for log-odds that stand.

    For each label the covariance of having it with its log-odds, over the standard deviation of
    having it; all times that of a label that as many have as any other. Where all labels are
    equally frequent that is the mean of the labels' log-odds less each label's mean; where all have
    one label it is 0.
    """
    names = list(task.verbalizers)
    balanced = math.sqrt(1 / len(names) * (1 - 1 / len(names)))
    found = 0.0
    for index, name in enumerate(names):
        having = [odds[id][index] for id, label in labels.items() if label == name]
        share = len(having) / len(labels)
        if 0 < share < 1:
            mean = fmean(odds[id][index] for id in labels)
            covariance = share * (fmean(having) - mean)
            found += covariance / math.sqrt(share * (1 - share)) * balanced
    return found


@dataclass(frozen=True)
class Arrangement:
    """In which order labeled examples stand in each other's contexts.

    The contexts of the base are those of ``leave_one_out``, without what has moved to the tail;
    every context ends in the tail. What is added or relabeled moves there, so that all that a
    proposal changes are the ends.

    ::

        of base[0]     base[4:] base[2:4] base[1]    tail[0] tail[1] tail[2]
        of base[1]     base[4:] base[2:4] base[0]    tail[0] tail[1] tail[2]
        …
        of tail[1]     the whole base                tail[0]         tail[2]
    """

    base: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()

    @property
    def full(self) -> tuple[str, ...]:
        """All examples, in an order that shares its beginning with a context of the base."""
        return self._trunk + self.tail

    @property
    def _trunk(self) -> tuple[str, ...]:
        if not self.base:
            return ()
        ids = (*leave_one_out(len(self.base))[-1], len(self.base) - 1)
        return self._without_tail(ids)

    def _without_tail(self, indices: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.base[k] for k in indices if self.base[k] not in self.tail)

    def moved_last(self, ids: Iterable[str]) -> "Arrangement":
        """With these examples, there already or new, at the end."""
        last = tuple(ids)
        return Arrangement(self.base, tuple(id for id in self.tail if id not in last) + last)

    def contexts(self) -> dict[str, tuple[str, ...]]:
        """For each example an order of all the others."""
        trunk = self._trunk
        contexts = {
            id: self._without_tail(order) + self.tail
            for id, order in zip(self.base, leave_one_out(len(self.base)), strict=True)
            if id not in self.tail
        }
        for k, id in enumerate(self.tail):
            contexts[id] = trunk + self.tail[:k] + self.tail[k + 1 :]
        return contexts


@cache
def leave_one_out(count: int) -> tuple[tuple[int, ...], ...]:
    """For each of ``count`` examples, an order of all the others.

    Divide and conquer: the orders for the left half all begin with the right half, and the other
    way round, so that an engine which computes shared prefixes once needs n·log2(n) examples of
    prefill for all contexts, not n².
    """
    orders: list[tuple[int, ...]] = [()] * count

    def split(low: int, high: int, context: tuple[int, ...]) -> None:
        if high - low == 1:
            orders[low] = context
        elif high > low:
            middle = (low + high) // 2
            split(low, middle, context + tuple(range(middle, high)))
            split(middle, high, context + tuple(range(low, middle)))

    split(0, count, ())
    return tuple(orders)


def inconsistent_pairs(
    groups: Mapping[str, Sequence[Example]], task: Task, labels: Labels
) -> Iterator[tuple[Example, Example]]:
    """The labeled pairs of each group whose labels the task's relation does not allow.

    Where one of a whole group must be True and none is, these are all its pairs.
    """
    for members in groups.values():
        labeled = [e for e in members if e.id in labels]
        none_true = task.some_true and not any(labels.get(e.id, True) for e in members)
        for a, b in combinations(labeled, 2):
            if none_true or not task.consistent(a, labels[a.id], b, labels[b.id]):
                yield a, b


class Scorer:
    """Scores labeled sets of one pool of examples.

    Args:
        examples: The pool.
        task: Gives the relation and the labels.
        engine: Answers "log P(label | context)" for the task's labels.
        alpha: The weight of mutual predictability.
        objective: ``mean_log_odds``, the mean over labeled examples of their label's log-odds
            against all other labels (the authors' code); ``centered``, how far the labels part
            the log-odds (``separation``), which is 0 where all have one label; or
            ``sum_log_prob``, the sum of their label's log-probability (the paper's text).
        consistency: Whether inconsistent pairs count.
        order: ``tree``, the arrangement's contexts, which share most of their prefixes; or
            ``fixed``, the pool's order without the example in question, as in the authors' code.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        task: Task,
        engine: Engine,
        alpha: float = 50.0,
        objective: Objective = "mean_log_odds",
        consistency: bool = True,
        order: ContextOrder = "tree",
    ):
        self.examples = {example.id: example for example in examples}
        self.groups = group_members(examples)
        self.task, self.engine, self.alpha = task, engine, alpha
        self.objective, self.consistency, self.order = objective, consistency, order
        self._index = {label: index for index, label in enumerate(task.verbalizers)}
        self._known: dict[frozenset, Score] = {}

    def inconsistent_pairs(
        self, labels: Labels, group: str | None = None
    ) -> list[tuple[Example, Example]]:
        """The labeled pairs that contradict each other, of all groups or of one."""
        if not self.consistency:
            return []
        groups = self.groups if group is None else {group: self.groups[group]}
        return list(inconsistent_pairs(groups, self.task, labels))

    def arranged(self, ids: Iterable[str]) -> Arrangement:
        """All in the base, each group's members side by side, whenever they were labeled."""
        return Arrangement(self._ordered(set(ids)))

    def odds_given(
        self, labels: Labels, arrangement: Arrangement, score: Score, ids: Sequence[str]
    ) -> LogOdds:
        """The log-odds of each label of some examples, given all other labeled ones.

        Args:
            labels: D.
            arrangement: The order of D's examples.
            score: The score of D, which has the answers for the labeled examples.
            ids: Labeled examples, unlabeled ones, or both.
        """
        new = [id for id in ids if id not in labels]
        order = arrangement.full if self.order == "tree" else self._ordered(set(labels))
        context = self._context(order, labels)
        requests = [Request(context, self.examples[id].text) for id in new]
        answers = self.engine.label_log_probs(requests) if new else []
        known = {id: score.log_probs[id] for id in ids if id in labels}
        odds = all_log_odds(known | dict(zip(new, answers, strict=True)))
        if self.objective == "centered":
            odds = less(odds, label_centers(all_log_odds(score.log_probs)))
        return odds

    def scores(self, candidates: Sequence[Labels], arrangement: Arrangement) -> list[Score]:
        """U of each set of labels for the arranged examples.

        All are asked of the engine at once, so that prefixes are shared; what is remembered is not
        asked again.
        """
        keys = [frozenset(labels.items()) for labels in candidates]
        new = {
            key: labels
            for key, labels in zip(keys, candidates, strict=True)
            if key not in self._known
        }
        contexts = self._contexts(arrangement) if new else {}
        requests = [
            Request(self._context(order, labels), self.examples[id].text)
            for labels in new.values()
            for id, order in contexts.items()
        ]
        answers = iter(self.engine.label_log_probs(requests) if requests else [])
        for key, labels in new.items():
            log_probs: dict[str, Sequence[float]] = {id: next(answers) for id in contexts}
            self._known[key] = self._score(labels, log_probs)
        return [self._known[key] for key in keys]

    def _contexts(self, arrangement: Arrangement) -> dict[str, tuple[str, ...]]:
        if self.order == "tree":
            return arrangement.contexts()
        ids = self._ordered({*arrangement.base, *arrangement.tail})
        return {id: ids[:k] + ids[k + 1 :] for k, id in enumerate(ids)}

    @property
    def remembered(self) -> list[tuple[dict[str, Label], Score]]:
        """The labeled sets scored since the last ``remember``, and those given to it."""
        return [(dict(key), score) for key, score in self._known.items()]

    def remember(self, scores: Iterable[tuple[Labels, Score]]) -> None:
        """Forgets all scores but these."""
        self._known = {frozenset(labels.items()): score for labels, score in scores}

    def forget(self) -> None:
        """Forgets all scores, and lets the engine forget what it kept."""
        self._known = {}
        self.engine.forget()

    def score(self, labels: Labels, arrangement: Arrangement) -> Score:
        """U of one set of labels for the arranged examples."""
        return self.scores([labels], arrangement)[0]

    def log_odds(self, labels: Labels, score: Score) -> dict[str, float]:
        """Each example's label's log-odds against all other labels, given all other examples."""
        return labels_log_odds(self.task, labels, self.odds(score))

    def odds(self, score: Score) -> LogOdds:
        """Each labeled example's log-odds of each label, centered where the objective is."""
        return all_log_odds(score.log_probs, self.objective == "centered")

    def _score(self, labels: Labels, log_probs: dict[str, Sequence[float]]) -> Score:
        if self.objective == "sum_log_prob":
            predictability = sum(
                values[self._index[labels[id]]] for id, values in log_probs.items()
            )
        elif self.objective == "centered":
            predictability = separation(self.task, labels, all_log_odds(log_probs))
        else:
            of_labels = labels_log_odds(self.task, labels, all_log_odds(log_probs))
            predictability = sum(of_labels.values()) / len(of_labels)
        inconsistencies = len(self.inconsistent_pairs(labels))
        utility = self.alpha * predictability - inconsistencies
        return Score(utility, predictability, inconsistencies, log_probs)

    def _context(self, order: Sequence[str], labels: Labels) -> tuple[str, ...]:
        """The pieces of these examples with their labels."""
        shown = (self.task.demonstration(self.examples[id], labels[id]) for id in order)
        return tuple(chain.from_iterable(shown))

    def _ordered(self, ids: Set[str]) -> tuple[str, ...]:
        return tuple(e.id for members in self.groups.values() for e in members if e.id in ids)
