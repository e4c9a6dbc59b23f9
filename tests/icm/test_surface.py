import random

import pytest

from icm_rl.icm.surface import _features, surface
from icm_rl.miniature.world import WORD
from icm_rl.tasks import TASKS, Dataset, Example
from icm_rl.tasks.base import Pair


def claims(texts: list[str]) -> Dataset:
    return Dataset([Example(str(k), text, str(k), text) for k, text in enumerate(texts)])


def test_the_word_that_decides_is_found():
    rng = random.Random(0)
    words = ["plain", "old", "new", "round", "kind"]
    data = claims([" ".join(rng.sample(words, 3)) for _ in range(60)])
    labels = {e.id: "kind" in e.text.split() for e in data.examples}
    found = surface(data, labels)
    assert found["accuracy"] == 1.0
    assert found["chance"] == max(sum(labels.values()), 60 - sum(labels.values())) / 60
    assert max(found["features"], key=lambda name: abs(found["features"][name])) == '"kind"'
    assert found["features"]['"kind"'] > 0


def test_random_labels_are_told_by_nothing():
    rng = random.Random(0)
    data = claims([" ".join(rng.sample("abcdefghij", 4)) for _ in range(400)])
    found = surface(data, {e.id: rng.random() < 0.5 for e in data.examples})
    assert 0.4 < found["accuracy"] < 0.6


def test_a_pairs_features_are_what_the_first_response_has_and_the_second_has_not():
    pair = Pair([{"role": "user", "content": "q"}], ("Yes it is", "It is not so"))
    one, other = Example("0", "", "g", "A>B"), Example("1", "", "g", "B>A")
    data = Dataset([one, other], pairs={"g": pair})
    found = _features(data, one)
    assert found["length in words"] == -1
    assert (found['first word "Yes"'], found['first word "It"'], found['"is"']) == (1, -1, 0)
    assert (found['"it is"'], found['"is not"']) == (1, -1)
    assert _features(data, other) == {name: -value for name, value in found.items()}


@pytest.mark.parametrize("count", [9, 10])
def test_a_label_of_fewer_than_five_prompts_says_nothing(count):
    data = claims([f"claim{k}" for k in range(count)])
    labels = {e.id: int(e.id) < 5 for e in data.examples}
    assert bool(surface(data, labels)) is (count == 10)
    assert surface(data, dict.fromkeys(labels, True)) == {}


def test_the_miniatures_word_is_found_and_its_truth_hardly(data):
    liked = TASKS["preferences"].load(data / "word_train.jsonl")
    found = surface(liked, liked.gold)
    assert found["accuracy"] == 1.0
    assert all(WORD in name or '"by' in name or "light" in name for name in found["features"])
    true = TASKS["truthfulqa"].load(data / "facts_train.jsonl")
    assert surface(true, true.gold)["accuracy"] < 0.6
