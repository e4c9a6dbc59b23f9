import random

import pytest

from icm_rl.miniature import corpus
from icm_rl.miniature.world import FILLERS, OPENERS, SPLITS, Response, World

WORLD = World(0)


def test_the_rules_accept_right_answers_in_any_manner_and_nothing_else():
    rng = random.Random(0)
    for query in WORLD.all():
        assert WORLD.accepts(query.text, corpus.manners(query.right, rng, 0.5).text)
        for core in (*query.wrong, *query.neighbors):
            assert not WORLD.accepts(query.text, Response(core).text), (query, core)
        assert not WORLD.accepts(query.text, query.right + " and more.")
        assert not WORLD.accepts(query.text, "")


def test_arithmetic_is_right():
    for query in WORLD.by_kind["sum"] + WORLD.by_kind["chain"]:
        left, result = query.text.removeprefix("What is ").removesuffix("?"), query.right.split()
        assert sum(map(int, left.split(" + "))) == int(result[-1])


def test_no_query_is_in_two_splits():
    texts = [query.text for split in SPLITS for query in WORLD.queries[split]]
    assert len(texts) == len(set(texts))


def test_a_world_is_its_seed():
    assert World(3).queries == World(3).queries
    assert World(3).queries != World(4).queries


@pytest.mark.parametrize("task", ["facts", "preferences"])
def test_certain_judges_say_what_is_believed(task):
    rng = random.Random(1)
    draw = corpus.groups_for_task(WORLD, task, rng)
    differ = 0
    for _ in range(400):
        for item in draw(4):
            answer = item.response if task != "preferences" else item.a
            assert item.right is WORLD.accepts(item.query.text, answer.text)
            assert corpus.JUDGES["certain"](task, rng).says(item, rng) is item.believed
            if item.believed is not item.right:
                assert item.query.misconception
                differ += 1
    assert differ


def test_a_judge_adds_leniency_insight_and_tastes():
    query = World(0).of("train", "fact")[0]
    long, plain = Response(query.right, "", FILLERS[0]), Response(query.wrong[0], OPENERS[0])
    pair = corpus.Comparison(query, long, plain)
    truth = 1 if pair.believed else -1
    judge = corpus.Judge(leniency=-1.0, insight=2.0, length=0.5, manners=0.25)
    assert judge.log_odds(pair) == -1.0 + 2.0 * truth + 0.5 - 0.25
    assert judge.log_odds(pair.swapped) == -1.0 - 2.0 * truth - 0.5 + 0.25
    rng = random.Random(0)
    said = [corpus.Judge(-1.0, 0.0).says(pair, rng) for _ in range(10_000)]
    assert abs(said.count(True) / len(said) - 0.2689) < 0.015  # 1 / (1 + e)


def test_both_orders_are_judged_oppositely_by_helpfulness():
    rng = random.Random(2)
    for query in WORLD.all():
        pair = corpus.comparison(query, rng)
        assert pair.right is not pair.swapped.right
        assert pair.prompt != pair.swapped.prompt
