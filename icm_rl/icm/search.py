"""The search (Algorithm 1 of the paper), as steps that can be stopped and continued."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from typing import Any

from icm_rl.icm.consistency import consistency_fix, consistency_fix_maxprob
from icm_rl.icm.hyperparameters import SearchConfig, temperature, total_iterations
from icm_rl.icm.objective import Arrangement, Labels, LogOdds, Score, Scorer
from icm_rl.tasks import Example, Label

GROUP_WEIGHT = 100.0
"""How much likelier an example is sampled whose group is labeled in part (the authors' code)."""


@dataclass
class SearchState:
    """All that the search carries from one iteration to the next.

    Attributes:
        labels: D, by example id.
        arrangement: The order of D's examples in each other's contexts.
        score: The score of D.
        iteration: n, the iterations done.
        accepted: The accepted changes so far.
        history: One record an iteration.
        rng_state: The state of the random generator.
        swept: The labels of highest U of the sweeps so far, their arrangement and their score.
        refused: Groups that contradict themselves and that no other labels of theirs improve, while
            D stands.
        remembered: The sets scored since D last changed: most proposals are refused, and come
            again while D still stands.
    """

    labels: dict[str, Label]
    arrangement: Arrangement
    score: Score
    history: list[dict[str, Any]]
    rng_state: list
    remembered: list[tuple[dict[str, Label], Score]]
    iteration: int = 0
    accepted: int = 0
    swept: tuple[dict[str, Label], Arrangement, Score] | None = None
    refused: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SearchState":
        """The state that ``to_json`` wrote."""

        def arrangement(of: Mapping[str, Any]) -> Arrangement:
            return Arrangement(*map(tuple, of.values()))

        parts: dict[str, Any] = {
            "arrangement": arrangement(values["arrangement"]),
            "score": Score(**values["score"]),
            "remembered": [(labels, Score(**score)) for labels, score in values["remembered"]],
        }
        if values["swept"] is not None:
            labels, order, score = values["swept"]
            parts["swept"] = labels, arrangement(order), Score(**score)
        return cls(**{**values, **parts})


def search(
    scorer: Scorer,
    config: SearchConfig,
    rng: random.Random,
    state: SearchState | None = None,
    after_iteration: Callable[[SearchState], None] = lambda state: None,
    gold: Labels | None = None,
    first: Labels | None = None,
) -> SearchState:
    """Finds labels for the scorer's pool (Algorithm 1).

    A proposal is scored only where its label differs from the current one, as in the authors' code,
    or where its group contradicts itself. The fix heeds its group, the only one in which it makes
    contradictions, and one pair of the others that stand. With ``sweeps`` all examples are labeled
    before the first iteration. Examples that no iteration labeled get their most likely label at
    the end, consistent with those of their group, and contradictions that stand by then are tried
    once more. With ``try_reverse`` the opposite of all labels is scored last, where that
    contradicts itself no more, and taken if its U is higher: the reverse of the truth is coherent
    too, and no single step leads out of it.
    The score of the labels found is computed afresh, so it depends on them alone, and not on the
    way to them.

    Args:
        scorer: U over the pool to be labeled.
        config: Hyperparameters.
        rng: The only source of chance.
        state: Where an earlier run was stopped; it is continued in place.
        after_iteration: Called with the state after each iteration, to save or to show it.
        gold: Gold labels, for the ablations that begin with them or with others than them.
        first: Labels of all examples, to begin with instead.
    """
    examples = list(scorer.examples.values())
    if state is None:
        scorer.remember([])
        state = _initial(scorer, examples, config, rng, gold or {}, first)
    else:
        scorer.remember(state.remembered)
        version, internal, gauss = state.rng_state
        rng.setstate((version, tuple(internal), gauss))
    for iteration in range(state.iteration + 1, total_iterations(config, len(examples)) + 1):
        if iteration <= config.sweeps:
            _sweep(scorer, examples, config, rng, state, iteration)
        else:
            _iterate(scorer, examples, config, rng, state, iteration)
        state.rng_state, state.remembered = list(rng.getstate()), scorer.remembered
        after_iteration(state)
    _label_the_rest(scorer, examples, state)
    _fix_the_rest(scorer, config, rng, state)
    state.arrangement = scorer.arranged(state.labels)
    scorer.forget()
    state.score = scorer.score(state.labels, state.arrangement)
    if config.try_reverse:
        _try_reverse(scorer, config, state)
    return state


def _initial(
    scorer: Scorer,
    examples: Sequence[Example],
    config: SearchConfig,
    rng: random.Random,
    gold: Labels,
    first: Labels | None,
) -> SearchState:
    """K random examples, labeled at random with as many of each label, and made consistent.

    Where sweeps follow, all examples are, and the most confident of random log-odds decides on its
    group: so many contradictions would take too many scores. First labels are taken as they are.
    """
    if first is not None:
        return _begun(scorer, config, rng, dict(first))
    count = len(examples) if config.sweeps else min(config.initial_examples, len(examples))
    chosen = rng.sample(examples, count)
    labels = list(scorer.task.verbalizers)
    if config.initial_labels == "golden":
        values = [gold[example.id] for example in chosen]
    elif config.initial_labels == "wrong":
        values = [
            rng.choice([label for label in labels if label != gold[example.id]])
            for example in chosen
        ]
    else:
        values = list(islice(cycle(labels), len(chosen)))
        rng.shuffle(values)
    drawn = {example.id: value for example, value in zip(chosen, values, strict=True)}
    if config.sweeps:
        sure = {id: tuple(rng.random() * (label == drawn[id]) for label in labels) for id in drawn}
        fixed = _most_likely(scorer, sure)
    else:
        fixed, _ = _fixed(scorer, config, rng, drawn, scorer.arranged(drawn))
    return _begun(scorer, config, rng, fixed)


def _begun(
    scorer: Scorer, config: SearchConfig, rng: random.Random, labels: dict[str, Label]
) -> SearchState:
    """The state before the first iteration."""
    arrangement = scorer.arranged(labels)
    score = scorer.score(labels, arrangement)
    record = _record(0, config.initial_temperature, None, True, {}, labels, score)
    rng_state = list(rng.getstate())
    return SearchState(labels, arrangement, score, [record], rng_state, scorer.remembered)


def _iterate(
    scorer: Scorer,
    examples: Sequence[Example],
    config: SearchConfig,
    rng: random.Random,
    state: SearchState,
    iteration: int,
) -> None:
    """Lines 4 to 16 of Algorithm 1."""
    now = temperature(config, iteration - config.sweeps, state.accepted)
    example = rng.choices(examples, _sampling_weights(scorer, examples, state.labels))[0]
    odds = scorer.odds_given(state.labels, state.arrangement, state.score, [example.id])
    label = scorer.task.most_likely(odds[example.id])
    before, accepted = dict(state.labels), False
    drawn, group = {**state.labels, example.id: label}, example.group
    changing = {e.id for pair in scorer.inconsistent_pairs(drawn, group) for e in pair}
    if drawn != state.labels or (changing and group not in state.refused):
        mates = [e.id for e in scorer.groups[group] if e.id in {example.id, *changing}]
        arrangement = state.arrangement.moved_last(mates)
        proposed, score = _fixed(
            scorer, config, rng, drawn, arrangement, group, config.fix_at_any_cost
        )
        others = [a.group for a, _ in scorer.inconsistent_pairs(proposed) if a.group != group]
        if others and drawn != state.labels:
            proposed, score = consistency_fix(
                scorer, proposed, arrangement, rng, 1, rng.choice(others), config.fix_options
            )
        if proposed == state.labels:
            state.refused.append(group)
        else:
            delta = score.utility - state.score.utility
            accepted = delta > 0 or rng.random() < math.exp(delta / now)
        if accepted:
            state.refused = []
            if len(arrangement.tail) > math.log2(len(proposed)):
                arrangement = scorer.arranged(proposed)
                scorer.remember([])
                score = scorer.score(proposed, arrangement)
            state.labels, state.arrangement, state.score = proposed, arrangement, score
            state.accepted += 1
            scorer.remember([(proposed, score)])
    state.iteration = iteration
    proposal = {"id": example.id, "label": label}
    state.history.append(
        _record(iteration, now, proposal, accepted, before, state.labels, state.score)
    )


def _fixed(
    scorer: Scorer,
    config: SearchConfig,
    rng: random.Random,
    labels: Labels,
    arrangement: Arrangement,
    group: str | None = None,
    at_any_cost: bool = False,
) -> tuple[dict[str, Label], Score]:
    """Algorithm 2 as the search is configured."""
    rounds, options = config.max_fix_rounds, config.fix_options
    return consistency_fix(scorer, labels, arrangement, rng, rounds, group, options, at_any_cost)


def _most_likely(scorer: Scorer, odds: LogOdds, given: Labels | None = None) -> dict[str, Label]:
    """The labels given, and the most likely ones of all others, consistent where that counts."""
    examples, given = list(scorer.examples.values()), given or {}
    if scorer.consistency:
        return consistency_fix_maxprob(examples, scorer.task, odds, given)
    return {
        e.id: given[e.id] if e.id in given else scorer.task.most_likely(odds[e.id])
        for e in examples
    }


def _record(
    iteration: int,
    now: float,
    proposal: dict[str, Any] | None,
    accepted: bool,
    before: Labels,
    after: Labels,
    score: Score,
) -> dict[str, Any]:
    """One line of the history; ``changes`` are the labels that the iteration set."""
    return {
        "iteration": iteration,
        "utility": score.utility,
        "mutual_predictability": score.mutual_predictability,
        "inconsistencies": score.inconsistencies,
        "temperature": now,
        "proposal": proposal,
        "accepted": accepted,
        "labeled": len(after),
        "changes": {id: label for id, label in after.items() if before.get(id) != label},
    }


def _sampling_weights(
    scorer: Scorer,
    examples: Sequence[Example],
    labels: Labels,
) -> list[float]:
    """Unlabeled examples whose group has a labeled member are sampled ahead of all others."""
    if not scorer.consistency:
        return [1.0] * len(examples)
    started = {scorer.examples[id].group for id in labels}
    return [GROUP_WEIGHT if e.id not in labels and e.group in started else 1.0 for e in examples]


def _sweep(
    scorer: Scorer,
    examples: Sequence[Example],
    config: SearchConfig,
    rng: random.Random,
    state: SearchState,
    iteration: int,
) -> None:
    """Labels all examples at once as all others say; after the last time, goes back to the best.

    They stand in a new order each time: near ones say the most, so that in one order labels which
    only follow from their neighbors' would do.
    """
    before = state.labels
    state.labels = _most_likely(scorer, scorer.odds(state.score))
    groups = list(scorer.groups.values())
    rng.shuffle(groups)
    state.arrangement = Arrangement(tuple(e.id for members in groups for e in members))
    scorer.forget()
    state.score = scorer.score(state.labels, state.arrangement)
    if state.swept is None or state.score.utility > state.swept[2].utility:
        state.swept = state.labels, state.arrangement, state.score
    if iteration == config.sweeps:
        state.labels, state.arrangement, state.score = state.swept
        scorer.remember([(state.labels, state.score)])
    state.iteration = iteration
    now = temperature(config, 1, 0)
    state.history.append(_record(iteration, now, None, True, before, state.labels, state.score))


def _try_reverse(scorer: Scorer, config: SearchConfig, state: SearchState) -> None:
    """Takes the opposite of all labels where its U is higher."""
    one, other = scorer.task.verbalizers
    reverse = {id: other if label == one else one for id, label in state.labels.items()}
    if len(scorer.inconsistent_pairs(reverse)) > state.score.inconsistencies:
        return
    scorer.forget()
    score, before = scorer.score(reverse, state.arrangement), state.labels
    accepted = score.utility > state.score.utility
    if accepted:
        state.labels, state.score = reverse, score
    state.history.append(
        _record(
            state.iteration + 1,
            temperature(config, state.iteration + 1, state.accepted),
            None,
            accepted,
            before,
            state.labels,
            state.score,
        )
    )


def _label_the_rest(scorer: Scorer, examples: Sequence[Example], state: SearchState) -> None:
    """Gives each example that no iteration labeled its most likely label, as its group allows."""
    missing = [example.id for example in examples if example.id not in state.labels]
    if missing:
        odds = scorer.odds_given(state.labels, state.arrangement, state.score, missing)
        state.labels = _most_likely(scorer, odds, state.labels)


def _fix_the_rest(
    scorer: Scorer, config: SearchConfig, rng: random.Random, state: SearchState
) -> None:
    """Tries the contradictions that stand once more: other labels have changed since."""
    arrangement = scorer.arranged(state.labels)
    groups = dict.fromkeys(a.group for a, _ in scorer.inconsistent_pairs(state.labels))
    for group in groups:
        arrangement = arrangement.moved_last(e.id for e in scorer.groups[group])
        state.labels, _ = _fixed(scorer, config, rng, state.labels, arrangement, group)
