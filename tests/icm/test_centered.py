"""Log-odds less their center, sweeps by them, and what contradictions that stand cost."""

import random
from dataclasses import replace
from itertools import product
from statistics import mean

import numpy as np
import pytest

from icm_rl.engines import LocalEngine
from icm_rl.icm.hyperparameters import SearchConfig, total_iterations
from icm_rl.icm.methods.base import Job
from icm_rl.icm.methods.zero_shot import ZeroShot
from icm_rl.icm.objective import Scorer, all_log_odds, center, label_centers, separation
from icm_rl.icm.prompting import zero_shot_log_probs
from icm_rl.icm.search import SearchState, search
from icm_rl.models import load_causal_lm, load_tokenizer
from icm_rl.tasks import TASKS, Example, configured
from tests.icm.test_objective import colors  # noqa: F401

TASK = TASKS["preferences"]


@pytest.fixture
def scorer(preferences, engine) -> Scorer:
    return Scorer(preferences.examples[:12], TASK, engine, objective="centered")


def test_two_labels_part_log_odds_by_their_covariance(scorer):
    rng = random.Random(3)
    labels = {id: rng.random() < 0.4 for id in scorer.examples}
    found = scorer.score(labels, scorer.arranged(labels))
    signs = [1 if label else -1 for label in labels.values()]
    odds = [np.subtract(*found.log_probs[id]) for id in labels]
    expected = np.cov(signs, odds, bias=True)[0, 1] / np.std(signs)
    assert found.mutual_predictability == pytest.approx(expected, abs=1e-9)
    assert found.utility == pytest.approx(50 * expected - found.inconsistencies, abs=1e-6)


def test_three_balanced_labels_part_log_odds_by_what_each_has_above_its_mean():
    rng = random.Random(0)
    task = replace(configured("claims"), verbalizers={name: f" {name}" for name in "rgb"})
    labels = {str(k): "rgb"[k % 3] for k in range(12)}
    odds = {id: tuple(rng.gauss(0, 2) for _ in "rgb") for id in labels}
    means = np.mean(list(odds.values()), 0)
    above = [
        odds[id]["rgb".index(label)] - means["rgb".index(label)] for id, label in labels.items()
    ]
    assert separation(task, labels, odds) == pytest.approx(mean(above))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 0, 0, 0, 10], 5),  # the mean is 2
        ([-3, -1, 4, 6], 1.5),
        ([1, 1, 1], 1),
        ([2], 2),
        ([-1, 9], 4),
    ],
)
def test_the_center_is_midway_between_two_groups(values, expected):
    assert center(values) == pytest.approx(expected)


def test_the_labels_that_part_log_odds_best_are_those_above_the_center():
    rng, task = random.Random(0), configured("claims")
    for _ in range(100):
        values = [rng.gauss(2 * (rng.random() < 0.3), 0.7) for _ in range(rng.randint(2, 8))]
        odds = {str(k): (value, -value) for k, value in enumerate(values)}
        best = max(
            product([True, False], repeat=len(values)),
            key=lambda labels: separation(task, dict(zip(odds, labels, strict=True)), odds),
        )
        assert list(best) == [value > center(values) for value in values]


def test_few_true_claims_are_found_where_a_mean_would_find_more():
    """One in ten is True; log-odds of the others vary, and the mean is in their midst."""
    rng = random.Random(1)
    gold = {str(k): k % 10 == 0 for k in range(60)}
    odds = {id: rng.gauss(1.5 if label else -1.5, 0.4) for id, label in gold.items()}
    log_probs = {id: np.log([1 / (1 + np.exp(-x)), 1 / (1 + np.exp(x))]) for id, x in odds.items()}
    found = all_log_odds(log_probs, centered=True)
    assert {id: values[0] > 0 for id, values in found.items()} == gold
    assert sum(x > mean(odds.values()) for x in odds.values()) > 6


def test_centered_log_odds_of_three_labels_by_hand():
    probabilities = {"x": (0.5, 0.3, 0.2), "y": (0.1, 0.7, 0.2)}
    found = all_log_odds({id: np.log(p) for id, p in probabilities.items()}, centered=True)
    # of two values the center is their mean
    first = (np.log(0.5 / 0.5) + np.log(0.1 / 0.9)) / 2
    second = (np.log(0.3 / 0.7) + np.log(0.7 / 0.3)) / 2
    assert found["x"] == pytest.approx((0 - first, np.log(0.3 / 0.7) - second, 0), abs=1e-12)
    assert label_centers(found) == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize("label", ["red", "white"])
def test_one_label_for_all_has_no_utility(colors, label):  # noqa: F811
    one = Scorer(list(colors.examples.values()), colors.task, colors.engine, objective="centered")
    labels = dict.fromkeys(one.examples, label)
    assert one.score(labels, one.arranged(labels)).utility == pytest.approx(0, abs=1e-9)


def test_a_new_example_is_labeled_by_what_it_has_beyond_the_center(scorer, engine):
    ids = list(scorer.examples)
    labels = dict(zip(ids[:6], [True, False] * 3, strict=True))
    arrangement = scorer.arranged(labels)
    score = scorer.score(labels, arrangement)
    found = scorer.odds_given(labels, arrangement, score, ids[4:8])
    plain = replace_objective(scorer).odds_given(labels, arrangement, score, ids[4:8])
    centers = label_centers(all_log_odds(score.log_probs))
    for id in ids[4:8]:
        assert found[id] == pytest.approx(tuple(np.subtract(plain[id], centers)), abs=1e-6)


def replace_objective(scorer: Scorer) -> Scorer:
    return Scorer(list(scorer.examples.values()), scorer.task, scorer.engine)


@pytest.mark.parametrize("objective", ["centered", "mean_log_odds"])
def test_other_methods_decide_by_the_same_log_odds(preferences, engine, tmp_path, objective):
    job = Job(preferences.examples[:20], TASK, engine, 0, tmp_path)
    found = ZeroShot(objective=objective, consistency=False).label(job)
    answers = zero_shot_log_probs(job.examples, engine)
    odds = np.array([np.subtract(*answers[e.id]) for e in job.examples])
    if objective == "centered":
        odds -= odds.mean()
        assert 0 < sum(found.labels.values()) < 20
    assert list(found.labels.values()) == [value > 0 for value in odds]
    assert list(found.log_odds.values()) == pytest.approx(list(abs(odds)), abs=1e-4)


def test_a_sweep_labels_all_at_once_and_the_best_is_kept(scorer):
    config = SearchConfig(sweeps=4, iterations_per_example=1)
    saved = []
    state = search(scorer, config, random.Random(6), None, lambda s: saved.append(s.to_json()))
    assert len(saved) == total_iterations(config, 12) == 4 + 12
    assert all(record["labeled"] == 12 for record in state.history)
    swept = [record["utility"] for record in state.history[1:4]]
    assert state.history[4]["utility"] == max(*swept, saved[3]["swept"][2]["utility"])
    assert not scorer.inconsistent_pairs(saved[0]["labels"])
    orders = [json_state["arrangement"]["base"] for json_state in saved[:3]]
    assert orders[0] != orders[1] != orders[2]
    for stopped in (1, 4, 9):
        again = search(scorer, config, random.Random(99), SearchState.from_json(saved[stopped]))
        assert again.labels == state.labels
        assert len(again.history) == len(state.history)


def test_contradictions_that_stand_are_not_tried_in_every_iteration(
    preferences, engine, monkeypatch
):
    # mates that the model labels alike, and that must differ: what contradicts itself is kept
    gold = preferences.gold
    alike = [
        [e for e in preferences.examples[:40] if gold[e.id] is label][:8] for label in (True, False)
    ]
    examples = [
        replace(e, group=f"{label}{k // 2}", key=str(k))
        for label, of_label in enumerate(alike)
        for k, e in enumerate(of_label)
    ]
    scorer, asked = Scorer(examples, TASK, engine), []
    answer = engine.label_log_probs

    def listen(requests):
        asked.append(len(requests))
        return answer(requests)

    monkeypatch.setattr(engine, "label_log_probs", listen)
    ends = []

    def after(state: SearchState) -> None:
        ends.append(sum(asked))
        asked.clear()

    config = SearchConfig(initial_labels="golden", iterations_per_example=2, fix_at_any_cost=False)
    state = search(scorer, config, random.Random(1), None, after, gold)
    assert state.score.inconsistencies >= 4
    # of a pair its labels and its two options are scored, of another one that stands as much again
    assert max(ends[1:]) <= 1 + 2 * 3 * 16
    assert mean(ends[1:]) <= 2 * 16


def test_on_a_real_model_one_label_for_all_has_none_of_the_utility_of_gold(smollm2):
    task = configured(
        "claims", "Review: {text}\nSentiment:", {"true": " positive", "false": " negative"}
    )
    model, tokenizer = load_causal_lm(smollm2), load_tokenizer(smollm2)
    engine = LocalEngine(model, tokenizer, list(task.verbalizers.values()))
    texts = {
        "I love this warm, charming film.": True,
        "A boring film with terrible actors.": False,
        "The food was fresh and delicious.": True,
        "The room was dirty and the staff were rude.": False,
        "Comfortable shoes that are worth the price.": True,
        "It broke after a week and I hate it.": False,
    }
    data = [
        Example(str(k), f"Review: {text}\nSentiment:", str(k), text) for k, text in enumerate(texts)
    ]
    gold = {str(k): label for k, label in enumerate(texts.values())}
    utility = {}
    for objective in ("centered", "mean_log_odds"):
        of = Scorer(data, task, engine, objective=objective)
        for name, labels in (("gold", gold), ("one", dict.fromkeys(gold, True))):
            utility[objective, name] = of.score(labels, of.arranged(labels)).utility
    assert utility["centered", "one"] == pytest.approx(0, abs=1e-9)
    assert utility["centered", "gold"] > 10
    assert utility["mean_log_odds", "one"] > utility["mean_log_odds", "gold"]
