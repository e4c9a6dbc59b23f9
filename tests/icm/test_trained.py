"""Methods whose model learns labels: of easy examples, or its own surest ones."""

import random
import re
from collections import Counter

import pytest

from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.icm.finetune import BaseModel
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.easy_to_hard import EasyToHard, made_up
from icm_rl.icm.methods.self_training import SelfTraining, surest
from icm_rl.icm.methods.zero_shot import ZeroShot
from icm_rl.tasks import TASKS, Example, configured

TASK = TASKS["preferences"]


@pytest.fixture
def job(preferences, engine, tmp_path) -> Job:
    base = BaseModel("miniature", "float32")
    return Job(preferences.examples[:24], TASK, engine, 3, tmp_path, base)


def is_right(text: str) -> bool:
    """Whether the sum or the comparison in a claim's text is right, worked out from its words."""
    one, other = map(int, re.findall(r"\d+", text.split("?")[0])[:2])
    value = one + other if "+" in text.split("?")[0] else max(one, other)
    said = text.split("?")[1]
    if "larger than" in said:
        first, second = map(int, re.findall(r"(\d+) is larger than (\d+)", said)[0])
        return first > second
    if "=" in said:
        return int(re.findall(r"= (\d+)", said)[0]) == value
    return int(re.findall(r"\d+", said)[0]) == value


@pytest.mark.parametrize("name", ["truthfulqa", "gsm8k", "preferences"])
def test_easy_examples_are_labeled_as_their_numbers_say(name):
    shots = made_up(TASKS[name], 60, random.Random(0))
    assert Counter(label for _, label in shots) == {True: 30, False: 30}
    kinds = Counter("+" in example.text for example, _ in shots)
    assert min(kinds.values()) > 10
    for example, label in shots:
        assert is_right(example.text) == label, example.text


def test_easy_examples_are_known_for_every_task_of_true_and_false():
    for name in ("alpaca", "hhh", "responses"):
        assert len(made_up(TASKS[name], 4, random.Random(0))) == 4
    one = configured("claims", template="Review: {text}\nPositive:")
    for example, label in made_up(one, 40, random.Random(0)):
        said = example.text.removeprefix("Review: ").split(".")[0]
        left, right = said.split(" is larger than ") if "larger" in said else said.split(" = ")
        total = sum(map(int, left.split(" + ")))
        assert label == (total > int(right) if "larger" in said else total == int(right))
    three = configured("claims", template="{a} {b} {c}")
    with pytest.raises(InputError, match="--easy is missing: no easy examples are known for"):
        made_up(three, 4, random.Random(0))


def test_each_example_is_asked_after_the_same_easy_ones(job):
    method = EasyToHard(easy_examples=6, objective="mean_log_odds", consistency=False)
    method.check(job)
    found = method.label(job)
    shots = made_up(TASK, 6, random.Random("easy 3"))
    shown = "".join(f"{e.text}{TASK.verbalizers[label]}\n\n" for e, label in shots)
    tokens = job.engine.count_tokens
    # the easy ones are computed once
    once = tokens(shown) + sum(tokens(e.text) for e in job.examples)
    assert found.cost.computed_tokens == pytest.approx(once, rel=0.05)
    assert found.cost.trained_tokens == 0


def test_a_model_that_learned_easy_ones_is_kept(job):
    method = EasyToHard(
        easy_examples=8, learn_by="fine_tuning", num_train_epochs=2, learning_rate=1e-4
    )
    method.check(job)
    found = method.label(job)
    shots = made_up(TASK, 8, random.Random("easy 3"))
    learned = 2 * sum(job.engine.count_tokens(e.text) for e, _ in shots)
    assert found.cost.trained_tokens == learned
    written = (job.folder / "model" / "model.safetensors").stat().st_mtime_ns
    assert method.label(job).labels == found.labels
    assert (job.folder / "model" / "model.safetensors").stat().st_mtime_ns == written


def test_easy_examples_of_the_users_own(job, tmp_path):
    rows = [
        {"prompt": f"Say {k}.", "response_a": str(k), "response_b": "no", "label": True}
        for k in range(4)
    ]
    write_jsonl(tmp_path / "easy.jsonl", rows)
    method = EasyToHard(easy=str(tmp_path / "easy.jsonl"), easy_examples=8)
    assert Counter(label for _, label in method._shots(job)) == {True: 4, False: 4}
    with pytest.raises(InputError, match="has fewer than 5 examples of a label"):
        EasyToHard(easy=str(tmp_path / "easy.jsonl"), easy_examples=10).check(job)
    with pytest.raises(InputError, match=r"--easy_examples 200: \d+ of them fit the context"):
        EasyToHard(easy_examples=200).check(job)


def test_the_surest_of_each_label_are_learned():
    examples = [Example(str(k), "", str(k), "") for k in range(6)]
    labels = {"0": True, "1": True, "2": True, "3": True, "4": False, "5": False}
    log_odds = {"0": 0.1, "1": 3.0, "2": 2.0, "3": -1.0, "4": 0.2, "5": 0.3}
    assert [e.id for e in surest(examples, labels, log_odds, 0.5)] == ["1", "2", "5"]
    assert [e.id for e in surest(examples, labels, log_odds, 0.01)] == ["1", "5"]
    assert surest(examples, labels, log_odds, 1.0) == examples


def test_self_training_learns_its_own_surest_labels(job):
    method = SelfTraining(rounds=2, num_train_epochs=1, learning_rate=1e-4, train_batch_size=4)
    found = method.label(job)
    first = ZeroShot().label(Job(job.examples, TASK, job.engine, 3, job.folder / "alone")).labels
    assert found.history[0]["changes"] == first
    so_far: dict = {}
    for record in found.history:
        so_far |= record["changes"]
    assert so_far == found.labels and len(found.history) == 3
    assert found.cost.trained_tokens > 0
    (job.folder / "round-2" / "00000.json").unlink()  # killed after its model was there
    again = method.label(job)
    assert again.labels == found.labels and again.log_odds == found.log_odds
