"""Few-shot prompting with its own labels: what stands in a context, and what comes of it."""

from collections import Counter
from itertools import chain

import pytest

from icm_rl.engines import LocalEngine, Request
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.bootstrap import Bootstrap, by_label, labeled_shots
from icm_rl.icm.methods.random_few_shot import RandomFewShot, random_shots
from icm_rl.icm.objective import all_log_odds
from icm_rl.tasks import TASKS

TASK = TASKS["preferences"]


@pytest.fixture
def job(preferences, engine, tmp_path) -> Job:
    return Job(preferences.examples[:24], TASK, engine, 3, tmp_path)


def shots_of(job: Job, labels, example, count: int, number: int = 1, draw: int = 0):
    return labeled_shots(job, by_label(job.examples, labels), number, example, 2, count, draw)


def test_shots_have_their_labels_as_many_of_each_and_none_of_the_question(job):
    labels = {e.id: k % 3 == 0 for k, e in enumerate(job.examples)}  # 8 True, 16 False
    for example in job.examples:
        shots = shots_of(job, labels, example, 9)
        assert len({e.id for e, _ in shots}) == 9
        assert all(e.group != example.group and labels[e.id] == label for e, label in shots)
        assert sorted(Counter(label for _, label in shots).values()) == [4, 5]
        assert shots == shots_of(job, labels, example, 9)
    example = job.examples[0]
    assert shots_of(job, labels, example, 9) != shots_of(job, labels, example, 9, number=2)
    assert shots_of(job, labels, example, 9) != shots_of(job, labels, example, 9, draw=1)


def test_where_a_label_has_too_few_others_fill_their_places(job):
    labels = dict.fromkeys((e.id for e in job.examples), False) | {job.examples[5].id: True}
    shots = shots_of(job, labels, job.examples[0], 8)
    assert Counter(label for _, label in shots) == {True: 1, False: 7}
    assert len({e.id for e, _ in shots}) == 8


@pytest.mark.parametrize("consistency", [True, False])
def test_each_round_is_labeled_after_the_labels_of_the_one_before(job, consistency):
    settings = {"objective": "mean_log_odds", "consistency": consistency}
    found = Bootstrap(shots=5, rounds=2, **settings).label(job)
    engine = LocalEngine(job.engine.model, job.engine.tokenizer, list(TASK.verbalizers.values()))

    def labeled(shots_by_id):
        odds = {}
        for example in job.examples:
            shown = chain.from_iterable(TASK.demonstration(*one) for one in shots_by_id[example.id])
            [answer] = engine.label_log_probs([Request(tuple(shown), example.text)])
            odds |= all_log_odds({example.id: answer})
        if consistency:
            return consistency_fix_maxprob(job.examples, TASK, odds)
        return {id: TASK.most_likely(values) for id, values in odds.items()}

    labels = labeled({e.id: random_shots(job, e, 2, 5, 0) for e in job.examples})
    rounds = [labels]
    for number in (1, 2):
        shots = {e.id: shots_of(job, labels, e, 5, number) for e in job.examples}
        labels = labeled(shots)
        rounds.append(labels)
    assert found.labels == rounds[-1]
    so_far: dict = {}
    for record, expected in zip(found.history, rounds, strict=True):
        so_far |= record["changes"]
        assert so_far == expected


def test_rounds_that_were_answered_are_not_asked_again(job):
    first = Bootstrap(shots=5, rounds=2).label(job)
    (job.folder / "round-2" / "00000.json").unlink()
    before = job.engine.prompt_tokens
    again = Bootstrap(shots=5, rounds=2).label(job)
    assert again.labels == first.labels and again.history == first.history
    asked = job.engine.prompt_tokens - before
    job.folder = job.folder / "alone"
    before = job.engine.prompt_tokens
    RandomFewShot(shots=5).label(job)
    assert asked < 1.2 * (job.engine.prompt_tokens - before)  # one round of three
