import json
import math
import random
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch

from icm_rl.engines import LocalEngine
from icm_rl.icm.consistency import consistency_fix
from icm_rl.icm.hyperparameters import SearchConfig, temperature
from icm_rl.icm.objective import Arrangement, Scorer, leave_one_out
from icm_rl.icm.search import SearchState, search
from icm_rl.tasks import TASKS, Example, configured


@pytest.fixture
def scorer(preferences, engine) -> Scorer:
    return Scorer(preferences.examples[:12], TASKS["preferences"], engine)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 33])
def test_each_order_holds_all_the_others_once(count):
    for left_out, order in enumerate(leave_one_out(count)):
        assert sorted((*order, left_out)) == list(range(count))


@pytest.mark.parametrize("count", [8, 48, 256])
def test_shared_prefixes_cost_n_log_n(count):
    prefixes = {order[:k] for order in leave_one_out(count) for k in range(1, len(order) + 1)}
    assert len(prefixes) <= count * math.ceil(math.log2(count))


IDS = tuple("abcdefghijklm")


@pytest.mark.parametrize("tail", [0, 1, 4])
@pytest.mark.parametrize("base", [0, 1, 2, 9])
def test_each_context_of_an_arrangement_holds_all_the_others_once(base, tail):
    arrangement = Arrangement(IDS[:base], IDS[base : base + tail])
    contexts = arrangement.contexts()
    assert sorted(contexts) == sorted(arrangement.full) == sorted(IDS[: base + tail])
    for left_out, order in contexts.items():
        assert sorted((*order, left_out)) == sorted(contexts)
        own_tail = tuple(id for id in arrangement.tail if id != left_out)
        assert order[len(order) - len(own_tail) :] == own_tail


def prefixes(contexts) -> set[tuple[str, ...]]:
    return {order[:k] for order in contexts.values() for k in range(1, len(order) + 1)}


@pytest.mark.parametrize("count", [8, 48, 256])
def test_an_addition_costs_less_than_two_of_each_example(count):
    ids = tuple(map(str, range(count)))
    before, after = Arrangement(ids), Arrangement(ids, ("new",))
    new = prefixes(after.contexts()) - prefixes(before.contexts())
    queries = count + 1
    assert len(new) + queries <= 2 * count + 2


def test_what_changes_moves_to_the_end(scorer):
    ids = list(scorer.examples)
    base = scorer.arranged(reversed(ids[:6]))
    assert base == Arrangement(tuple(ids[:6]))
    added = base.moved_last([ids[8]]).moved_last([ids[9]]).moved_last([ids[8]])
    assert added == Arrangement(tuple(ids[:6]), (ids[9], ids[8]))
    relabeled = added.moved_last([ids[1], ids[0]])
    assert relabeled.tail == (ids[9], ids[8], ids[1], ids[0])
    for left_out, order in relabeled.contexts().items():
        assert sorted((*order, left_out)) == sorted([*ids[:6], ids[8], ids[9]])
        assert order[-3:] == tuple(id for id in relabeled.tail if id != left_out)[-3:]


def log_odds_by_hand(scorer, labels, id, order, model, tokenizer):
    """The label's log-odds from one plain forward pass over the prompt."""
    ids = [tokenizer.bos_token_id]
    for other in order:
        word = "True" if labels[other] else "False"
        text = scorer.examples[other].text
        ids += tokenizer.encode(f"{text} {word}\n\n", add_special_tokens=False)
    ids += tokenizer.encode(scorer.examples[id].text, add_special_tokens=False)
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    true, false = (tokenizer.encode(f" {word}")[0] for word in ("True", "False"))
    return (log_probs[true] - log_probs[false]).item()


def test_utility_equals_a_plain_computation(scorer, preferences, model, tokenizer):
    labels = {e.id: preferences.gold[e.id] for e in scorer.examples.values()}
    first, second = list(labels)[:2]
    labels[second] = labels[first]  # one inconsistent pair
    found = scorer.score(labels, scorer.arranged(labels))
    ids = list(labels)
    total = 0.0
    for id, order in zip(ids, leave_one_out(len(ids)), strict=True):
        odds = log_odds_by_hand(scorer, labels, id, [ids[k] for k in order], model, tokenizer)
        true, false = found.log_probs[id]
        assert true - false == pytest.approx(odds, abs=1e-4)
        total += odds if labels[id] else -odds
    inconsistent = sum(
        a.group == b.group and labels[a.id] == labels[b.id]
        for a, b in combinations(scorer.examples.values(), 2)
    )
    assert found.inconsistencies == inconsistent == 1
    assert found.mutual_predictability == pytest.approx(total / len(ids), abs=1e-4)
    assert found.utility == pytest.approx(50 * total / len(ids) - 1, abs=1e-2)


@pytest.mark.parametrize("order", ["tree", "fixed"])
def test_log_odds_equal_plain_forward_passes_in_the_same_order(
    preferences, engine, model, tokenizer, order
):
    scorer = Scorer(preferences.examples[:12], TASKS["preferences"], engine, order=order)
    labels = {e.id: preferences.gold[e.id] for e in scorer.examples.values()}
    ids = list(labels)
    arrangement = scorer.arranged(ids[:9]).moved_last([*ids[9:], ids[2]])
    contexts = arrangement.contexts()
    if order == "fixed":
        contexts = {id: [other for other in ids if other != id] for id in ids}
    found = scorer.score(labels, arrangement)
    for id in ids:
        true, false = found.log_probs[id]
        by_hand = log_odds_by_hand(scorer, labels, id, contexts[id], model, tokenizer)
        assert true - false == pytest.approx(by_hand, abs=1e-4)


def test_the_papers_sum_form_is_the_sum_of_log_probabilities(preferences, engine):
    scorer = Scorer(
        preferences.examples[:6], TASKS["preferences"], engine, objective="sum_log_prob"
    )
    labels = {e.id: preferences.gold[e.id] for e in scorer.examples.values()}
    found = scorer.score(labels, scorer.arranged(labels))
    assert found.mutual_predictability < 0
    # log P(label) is below the log of its share among the two labels
    share = sum(-math.log1p(math.exp(-odds)) for odds in scorer.log_odds(labels, found).values())
    assert share - 1 < found.mutual_predictability < share


COLORS = {"red": " red", "blue": " blue", "green": " green", "white": " white"}


@pytest.fixture
def colors(model, tokenizer) -> Scorer:
    """Four labels: the color of some creatures, each asked for twice."""
    task = configured("claims", "{creature}", COLORS)
    examples = [
        Example(f"{k}{n}", f"What color is the {name}?", str(k), "color")
        for k, name in enumerate(("zeb", "lake", "mill"))
        for n in range(2)
    ]
    return Scorer(examples, task, LocalEngine(model, tokenizer, list(COLORS.values())))


def test_utility_of_four_labels_equals_a_plain_computation(colors, model, tokenizer):
    labels = dict(
        zip(colors.examples, ["red", "red", "blue", "green", "white", "white"], strict=True)
    )
    found = colors.score(labels, colors.arranged(labels))
    verbalisers = [tokenizer.encode(word)[0] for word in COLORS.values()]
    ids, total = list(labels), 0.0
    for id, order in zip(ids, leave_one_out(len(ids)), strict=True):
        prompt = [tokenizer.bos_token_id]
        for other in order:
            text = colors.examples[ids[other]].text
            prompt += tokenizer.encode(f"{text} {labels[ids[other]]}\n\n", add_special_tokens=False)
        prompt += tokenizer.encode(colors.examples[id].text, add_special_tokens=False)
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        shares = [math.exp(logits[token].item()) for token in verbalisers]
        own = shares[list(COLORS).index(labels[id])]
        total += math.log(own / (sum(shares) - own))
        assert colors.log_odds(labels, found)[id] == pytest.approx(
            math.log(own / (sum(shares) - own)), abs=1e-4
        )
    assert found.inconsistencies == 1
    assert found.utility == pytest.approx(50 * total / 6 - 1, abs=1e-2)


def test_a_search_ends_with_consistent_labels_of_the_set(colors):
    state = search(colors, SearchConfig(initial_examples=4), random.Random(3))
    assert set(state.labels) == set(colors.examples)
    assert set(state.labels.values()) <= set(COLORS)
    assert not colors.inconsistent_pairs(state.labels)
    first = state.history[0]["changes"]
    assert len(first) == 4


def test_a_pair_that_no_labels_satisfy_is_left_as_it_is(preferences, engine):
    impossible = replace(TASKS["preferences"], consistent=lambda a, label_a, b, label_b: False)
    scorer = Scorer(preferences.examples[:4], impossible, engine)
    labels = dict.fromkeys(scorer.examples, True)
    fixed, score = consistency_fix(scorer, labels, scorer.arranged(labels), random.Random(0))
    assert fixed == labels
    assert score.inconsistencies == 2


@pytest.mark.parametrize("kind", ["golden", "wrong"])
def test_a_search_can_begin_with_golden_labels_or_with_none_of_them(scorer, preferences, kind):
    config = SearchConfig(initial_examples=6, initial_labels=kind, max_fix_rounds=0)
    seen = []
    search(scorer, config, random.Random(2), None, seen.append, preferences.gold)
    start = seen[0].history[0]["changes"]
    assert len(start) == 6
    assert {preferences.gold[id] == label for id, label in start.items()} == {kind == "golden"}


def test_the_opposite_of_all_labels_is_taken_where_its_utility_is_higher(scorer, preferences):
    def found(**settings):
        config = SearchConfig(12, "wrong", iterations_per_example=0, **settings)
        return search(scorer, config, random.Random(3), gold=preferences.gold)

    wrong = found()
    assert wrong.labels == {id: not preferences.gold[id] for id in wrong.labels}
    right = found(try_reverse=True)
    assert right.labels == {id: preferences.gold[id] for id in right.labels}
    assert right.score.utility > wrong.score.utility
    alone = scorer.score(right.labels, right.arrangement)
    assert right.score == alone
    *_, before, last = right.history
    assert before["utility"] == pytest.approx(wrong.score.utility, abs=1e-3)
    assert last["utility"] == alone.utility
    assert last["changes"] == right.labels
    golden = SearchConfig(12, "golden", iterations_per_example=0.5, try_reverse=True)
    kept = search(scorer, golden, random.Random(3), gold=preferences.gold)
    assert kept.labels == right.labels
    assert not kept.history[-1]["accepted"] and not kept.history[-1]["changes"]


def test_an_opposite_that_contradicts_itself_is_not_scored(data, engine):
    facts = TASKS["truthfulqa"].load(data / "facts_train.jsonl", 4)
    scorer = Scorer(facts.examples, TASKS["truthfulqa"], engine)
    config = SearchConfig(4, "golden", iterations_per_example=0.5, try_reverse=True)
    state = search(scorer, config, random.Random(0), gold=facts.gold)
    assert len(scorer.examples) == 16
    assert [record["iteration"] for record in state.history] == list(range(9))


def test_utility_does_not_depend_on_the_order_of_labeling(scorer, preferences):
    labels = {e.id: preferences.gold[e.id] for e in scorer.examples.values()}
    backwards = dict(reversed(labels.items()))
    scores = scorer.scores([labels, backwards], scorer.arranged(backwards))
    assert scores[0].utility == scores[1].utility


def test_consistency_fix_takes_the_best_consistent_option(scorer, preferences):
    labels = {e.id: preferences.gold[e.id] for e in scorer.examples.values()}
    a, b = list(labels)[:2]
    broken = {**labels, a: True, b: True}
    fixed, score = consistency_fix(scorer, broken, scorer.arranged(broken), random.Random(0))
    options = [{**labels, a: True, b: False}, {**labels, a: False, b: True}]
    order = scorer.arranged(labels)
    utilities = [scorer.score(option, order).utility for option in options]
    assert fixed == options[utilities.index(max(utilities))]
    assert score.utility == max(utilities)
    assert broken[a] is broken[b] is True


def test_a_fix_that_changes_one_label_leaves_one_of_two_answers_true(data, engine):
    facts = TASKS["truthfulqa"].load(data / "facts_train.jsonl", 4)
    scorer = Scorer(facts.examples, TASKS["truthfulqa"], engine)
    a, b = next(
        (a, b)
        for a, b in combinations(facts.examples, 2)
        if a.group == b.group and a.key != b.key and not facts.gold[a.id] and not facts.gold[b.id]
    )
    labels = {e.id: e in (a, b) for e in facts.examples}
    order = scorer.arranged(labels)
    options = [{**labels, a.id: one, b.id: not one} for one in (True, False)]
    neither = {**labels, a.id: False, b.id: False}
    utilities = [scorer.score(option, order).utility for option in (*options, neither)]
    assert max(utilities) == utilities[-1]

    def fixed(**settings):
        return consistency_fix(scorer, labels, order, random.Random(0), **settings)[0]

    assert fixed() == neither
    assert fixed(options="one_change") == options[utilities.index(max(utilities[:2]))]


def test_a_fix_at_any_cost_resolves_one_pair_and_others_at_a_gain_only(scorer):
    labels = dict.fromkeys(scorer.examples, False)
    order = scorer.arranged(labels)
    a, b = next(iter(scorer.groups.values()))
    options = [{**labels, a.id: one, b.id: not one} for one in (True, False)]
    *costs, current = (score.utility for score in scorer.scores([*options, labels], order))
    assert max(costs) < current

    def fixed(group: str | None, **settings):
        return consistency_fix(scorer, labels, order, random.Random(0), 10, group, **settings)

    assert fixed(a.group)[0] == labels
    found, score = fixed(a.group, at_any_cost=True)
    assert found == options[costs.index(max(costs))]
    assert score.utility == max(costs)
    wherever, _ = fixed(None, at_any_cost=True)
    assert len(scorer.inconsistent_pairs(wherever)) == len(scorer.groups) - 1


class Agreeing(LocalEngine):
    """The miniature, were it to call everything True."""

    def label_log_probs(self, requests):
        return [(math.log(0.9), math.log(0.1)) for _ in requests]


@pytest.mark.parametrize("at_any_cost", [False, True])
def test_a_search_that_fixes_at_any_cost_keeps_its_labels_consistent(
    preferences, model, tokenizer, at_any_cost
):
    engine = Agreeing(model, tokenizer, [" True", " False"])
    scorer = Scorer(preferences.examples[:12], TASKS["preferences"], engine)
    config = SearchConfig(12, "golden", fix_at_any_cost=at_any_cost)
    seen = []
    search(scorer, config, random.Random(0), None, seen.append, preferences.gold)
    contradictions = [record["inconsistencies"] for record in seen[-1].history]
    assert contradictions[0] == 0
    assert (max(contradictions) == 0) == at_any_cost


def test_temperatures_by_hand():
    config = SearchConfig()
    assert temperature(config, 1, 0) == 10
    assert temperature(config, 20, 9) == pytest.approx(10 / (1 + 0.99 * math.log(20)))
    cold = SearchConfig(final_temperature=5.0)
    assert temperature(cold, 1000, 0) == 5.0
    log = SearchConfig(temperature_schedule="log")
    assert temperature(log, 20, 9) == pytest.approx(10 / (1 + 2 * math.log(10)))


def test_the_search_starts_with_half_true_and_is_the_same_for_a_seed(scorer):
    config = SearchConfig(iterations_per_example=1, initial_examples=4)
    one = search(scorer, config, random.Random(5))
    two = search(scorer, config, random.Random(5))
    assert one.labels == two.labels
    assert one.history == two.history
    assert set(one.labels) == set(scorer.examples)
    assert [record["iteration"] for record in one.history] == list(range(13))


def test_a_stopped_search_goes_on_as_if_it_had_not_been(scorer):
    config = SearchConfig(iterations_per_example=1.5, initial_examples=4)
    saved = []
    whole = search(scorer, config, random.Random(6), None, lambda s: saved.append(s.to_json()))
    middle = SearchState.from_json(json.loads(json.dumps(saved[7])))
    again = search(scorer, config, random.Random(99), middle)
    assert again.labels == whole.labels
    assert again.score == whole.score
    for one, other in zip(again.history, whole.history, strict=True):
        assert one.pop("utility") == pytest.approx(other.pop("utility"), abs=1e-2)
        del one["mutual_predictability"], other["mutual_predictability"]
        assert one == other


def test_nothing_is_scored_twice_while_the_labels_stand(scorer, monkeypatch):
    asked = []
    answer = scorer.engine.label_log_probs

    def listen(requests):
        asked.append([(request.context, request.query) for request in requests])
        return answer(requests)

    monkeypatch.setattr(scorer.engine, "label_log_probs", listen)
    ends = []
    state = search(
        scorer, SearchConfig(), random.Random(11), None, lambda _: ends.append(len(asked))
    )
    since = []
    for record, (start, end) in zip(state.history[1:], pairwise([0, *ends]), strict=True):
        scored = [requests for requests in asked[start:end] if len(requests) > 1]
        assert all(requests not in since for requests in scored)
        since = [] if record["changes"] else since + scored


def test_labels_that_repeat_the_current_one_are_not_scored(scorer):
    state = search(scorer, SearchConfig(iterations_per_example=3), random.Random(1))
    for before, record in zip(state.history, state.history[1:], strict=False):
        if not record["changes"]:
            assert record["utility"] == before["utility"]
        labeled = record["proposal"]["id"] in {
            id for earlier in state.history[: record["iteration"]] for id in earlier["changes"]
        }
        assert labeled or record["changes"] or not record["accepted"]
