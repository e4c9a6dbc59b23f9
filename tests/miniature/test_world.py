import random

import pytest

from icm_rl.miniature import corpus
from icm_rl.miniature.world import SPLITS, Response, World

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


@pytest.mark.parametrize("task", ["facts", "solutions", "preferences"])
def test_judges_judge_by_their_criterion(task):
    rng = random.Random(1)
    draw = corpus.groups_for_task(WORLD, task, rng)
    for _ in range(200):
        for item in draw(4):
            answer = item.response if task != "preferences" else item.a
            right = WORLD.accepts(item.query.text, answer.text)
            assert corpus.JUDGES["truth"](item, rng) is right
            assert corpus.JUDGES["reverse"](item, rng) is not right


def test_both_orders_are_judged_oppositely_by_helpfulness():
    rng = random.Random(2)
    for query in WORLD.all():
        pair = corpus.comparison(query, rng)
        assert pair.right is not pair.swapped.right
        assert pair.prompt != pair.swapped.prompt
