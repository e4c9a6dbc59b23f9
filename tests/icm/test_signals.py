"""What a model's answers say of labels: of one that has its own mind, and one that follows."""

import math
import random
from collections import Counter

import pytest

from icm_rl.icm.signals import opposite, shuffled, signals
from icm_rl.tasks import TASKS, Example, group_members
from icm_rl.tasks.base import Task
from icm_rl.tasks.relations import unrelated

TASK = TASKS["claims"]
SURE = math.log(0.9 / 0.1)


class Answering:
    """An engine that is 90 % sure of each answer, and needs no context."""

    context_length = 10_000
    prompt_tokens = computed_tokens = missing_labels = 0

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def forget(self) -> None:
        pass

    def says(self, request) -> bool:
        """Calls odd claims True, whatever stands before them."""
        return "odd" in request.query

    def label_log_probs(self, requests):
        sure = math.log(0.9), math.log(0.1)
        return [sure if self.says(request) else sure[::-1] for request in requests]


class Following(Answering):
    """Calls a claim as most claims of its kind before it are called."""

    def says(self, request) -> bool:
        kind = "odd" if "odd" in request.query else "even"
        shown = zip(request.context[::2], request.context[1::2], strict=True)
        votes = Counter("True" in label for text, label in shown if kind in text)
        return votes[True] > votes[False]


EXAMPLES = [
    Example(str(k), f"claim {k} is {'odd' if k % 2 else 'even'}", str(k // 2), str(k))
    for k in range(16)
]
ODD = {e.id: "odd" in e.text for e in EXAMPLES}


def test_a_model_that_knows_the_concept_says_the_same_after_any_labels():
    found = signals(EXAMPLES, ODD, TASK, Answering(), random.Random(0))
    assert found.agreement == found.shuffled_agreement == found.reversed_agreement == 1
    assert found.zero_shot_agreement == found.stability == 1
    assert found.coherence == pytest.approx(SURE)
    assert found.reversed_coherence == pytest.approx(-SURE)
    assert found.confidence == pytest.approx(0.9 - 1)
    assert found.largest_share == 0.5


def test_labels_that_it_does_not_share_are_no_more_coherent_than_chance():
    rng = random.Random(1)
    labels = shuffled(EXAMPLES, ODD, rng)
    right = sum(labels[id] == label for id, label in ODD.items()) / len(ODD)
    found = signals(EXAMPLES, labels, TASK, Answering(), random.Random(0))
    assert found.agreement == found.shuffled_agreement == found.zero_shot_agreement == right
    assert found.coherence == pytest.approx((2 * right - 1) * SURE)
    assert found.stability == 1


def test_a_model_that_follows_says_the_opposite_after_opposite_labels():
    found = signals(EXAMPLES, ODD, TASK, Following(), random.Random(0))
    assert found.agreement == 1
    assert found.reversed_agreement == 0
    assert found.coherence == found.reversed_coherence == pytest.approx(SURE)
    assert found.shuffled_agreement < 0.8
    assert found.stability < 0.8


def test_one_label_for_all_is_no_more_coherent_than_chance():
    found = signals(EXAMPLES, dict.fromkeys(ODD, True), TASK, Answering(), random.Random(0))
    assert (found.agreement, found.largest_share) == (0.5, 1)
    assert found.coherence == pytest.approx(0)
    assert found.excess == pytest.approx(0)


def test_labels_are_dealt_out_among_groups_of_one_size():
    examples = [*EXAMPLES, *(Example(f"lone {k}", "x", f"lone {k}", "") for k in range(4))]
    labels = ODD | {f"lone {k}": k < 1 for k in range(4)}
    labels |= {"0": True, "1": True}
    rng = random.Random(0)

    def hands(of):
        groups = group_members(examples).values()
        return sorted(sorted(of[e.id] for e in members) for members in groups)

    seen = set()
    for _ in range(20):
        found = shuffled(examples, labels, rng)
        assert hands(found) == hands(labels)
        seen.add(tuple(found[e.id] for e in examples))
    assert len(seen) == 20


def test_the_opposite_of_three_labels_is_the_one_that_follows():
    colors = Task("colors", "{x}", print, unrelated, verbalizers={k: f" {k}" for k in "rgb"})
    assert opposite({"1": "r", "2": "b"}, colors) == {"1": "g", "2": "r"}
