"""The scoring function U(D) = α · P_θ(D) − I(D) (Section 2.2 of the paper)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from icm_rl.engines import Engine, Request
from icm_rl.tasks import Example, Label, Task, group_members

Labels = Mapping[str, Label]
"""Labels by example id."""

Objective = Literal["mean_log_odds", "sum_log_prob"]


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


def leave_one_out(count: int) -> list[tuple[int, ...]]:
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
    return orders


class Scorer:
    """Scores labeled sets of one pool of examples.

    Args:
        examples: The pool.
        task: Gives the relation and the labels.
        engine: Answers "log P(label | context)" for the task's labels.
        alpha: The weight of mutual predictability.
        objective: ``mean_log_odds``, the mean over labeled examples of their label's log-odds
            against all other labels (the authors' code), or ``sum_log_prob``, the sum of their
            label's log-probability (the paper's text).
        consistency: Whether inconsistent pairs count.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        task: Task,
        engine: Engine,
        alpha: float = 50.0,
        objective: Objective = "mean_log_odds",
        consistency: bool = True,
    ):
        self.examples = {example.id: example for example in examples}
        self.groups = group_members(examples)
        self.task, self.engine, self.alpha = task, engine, alpha
        self.objective, self.consistency = objective, consistency
        self._index = {label: index for index, label in enumerate(task.labels)}
        self._known: dict[frozenset, Score] = {}

    def inconsistent_pairs(self, labels: Labels) -> list[tuple[Example, Example]]:
        """The labeled pairs that contradict each other."""
        return list(self._inconsistent_pairs(labels)) if self.consistency else []

    def _inconsistent_pairs(self, labels: Labels) -> Iterator[tuple[Example, Example]]:
        for members in self.groups.values():
            for a, b in combinations([e for e in members if e.id in labels], 2):
                if not self.task.consistent(a, labels[a.id], b, labels[b.id]):
                    yield a, b

    def most_likely(self, labels: Labels, ids: Sequence[str]) -> list[Label]:
        """The most likely label of each of some unlabeled examples, given all labeled ones."""
        context = tuple(self._demonstration(id, labels[id]) for id in self._ordered(labels))
        requests = [Request(context, self.examples[id].text) for id in ids]
        return [self.task.most_likely(answer) for answer in self.engine.label_log_probs(requests)]

    def scores(self, candidates: Sequence[Labels]) -> list[Score]:
        """U of each labeled set, none of them empty.

        All are asked of the engine at once, so that prefixes are shared; what is remembered is not
        asked again.
        """
        keys = [frozenset(labels.items()) for labels in candidates]
        new = {
            key: labels
            for key, labels in zip(keys, candidates, strict=True)
            if key not in self._known
        }
        requests: list[Request] = []
        for labels in new.values():
            ids = self._ordered(labels)
            demonstrations = [self._demonstration(id, labels[id]) for id in ids]
            requests += [
                Request(tuple(demonstrations[k] for k in order), self.examples[id].text)
                for id, order in zip(ids, leave_one_out(len(ids)), strict=True)
            ]
        answers = iter(self.engine.label_log_probs(requests) if requests else [])
        for key, labels in new.items():
            log_probs = {id: next(answers) for id in self._ordered(labels)}
            self._known[key] = self._score(labels, log_probs)
        return [self._known[key] for key in keys]

    @property
    def remembered(self) -> list[tuple[dict[str, Label], Score]]:
        """The labeled sets scored since the last ``remember``, and those given to it."""
        return [(dict(key), score) for key, score in self._known.items()]

    def remember(self, scores: Iterable[tuple[Labels, Score]]) -> None:
        """Forgets all scores but these."""
        self._known = {frozenset(labels.items()): score for labels, score in scores}

    def score(self, labels: Labels) -> Score:
        """U of one labeled set."""
        return self.scores([labels])[0]

    def log_odds(self, labels: Labels, score: Score) -> dict[str, float]:
        """Each example's label's log-odds against all other labels, given all other examples."""
        return {id: log_odds(score.log_probs[id], self._index[labels[id]]) for id in labels}

    def _score(self, labels: Labels, log_probs: dict[str, Sequence[float]]) -> Score:
        of_label = [(values, self._index[labels[id]]) for id, values in log_probs.items()]
        if self.objective == "mean_log_odds":
            predictability = sum(log_odds(*values) for values in of_label) / len(of_label)
        else:
            predictability = sum(values[index] for values, index in of_label)
        inconsistencies = len(self.inconsistent_pairs(labels))
        utility = self.alpha * predictability - inconsistencies
        return Score(utility, predictability, inconsistencies, log_probs)

    def _demonstration(self, id: str, label: Label) -> str:
        return self.task.demonstration(self.examples[id], label)

    def _ordered(self, labels: Labels) -> list[str]:
        """The labeled ids with each group's members side by side, whenever they were labeled."""
        return [e.id for members in self.groups.values() for e in members if e.id in labels]
