"""A chat model's answers as votes."""

from math import log

import pytest

from icm_rl.errors import InputError
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.judge import Judge, verdict, voted
from icm_rl.tasks import TASKS, Example, configured

TASK = TASKS["truthfulqa"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("True", " True"),
        ("It is true.", " True"),
        ("Not True, I think: FALSE!", " False"),
        ("untrue, or falsely so", None),
        ("", None),
    ],
)
def test_the_last_label_that_an_answer_names_counts(answer, words):
    assert verdict(answer, TASK) == words


def test_of_labels_within_another_the_longer_is_read():
    task = configured("claims", verbalizers='{"a": " red", "b": " dark red"}')
    assert verdict("Dark red", task) == " dark red"
    assert verdict("dark, or red", task) == " red"


def test_votes_are_log_odds():
    examples = [Example(str(k), "…", str(k), "") for k in range(3)]
    answers = [["True", "true", "False", "?"], ["False"] * 4, ["?"] * 4]
    odds, without = voted(examples, answers, TASK)
    assert odds["0"] == pytest.approx((log(2.5 / 1.5), log(1.5 / 2.5)))
    assert odds["1"] == pytest.approx((log(0.5 / 4.5), log(4.5 / 0.5)))
    assert odds["2"] == (0, 0) and without == 5


def test_the_miniature_is_asked_and_its_answers_are_kept(preferences, engine, tmp_path):
    job = Job(preferences.examples[:6], TASKS["preferences"], engine, 0, tmp_path)
    method = Judge(judge="miniature", samples=3, question="{text}", response_length=8)
    method.check(job)
    found = method.label(job)
    assert set(found.labels) == {e.id for e in job.examples}
    assert 0 <= found.figures["answers_without_label"] <= 1
    asked = 3 * sum(engine.count_tokens(e.text) for e in job.examples)
    assert asked < found.cost.computed_tokens <= asked + 6 * 3 * 8
    answers = [file.read_text() for file in (tmp_path / "answers").rglob("answers-*.jsonl")]
    assert sum(text.count("\n") for text in answers) == 6 * 3  # each sample its own
    assert method.label(job).log_odds == found.log_odds
    again = [file.read_text() for file in (tmp_path / "answers").rglob("answers-*.jsonl")]
    assert again == answers


def test_a_judge_and_its_question_are_asked_for(preferences, engine, tmp_path):
    job = Job(preferences.examples[:6], TASKS["preferences"], engine, 0, tmp_path)
    with pytest.raises(InputError, match="--judge is missing: name the chat model"):
        Judge().check(job)
    with pytest.raises(InputError, match=r"--question must have \{text\}"):
        Judge(judge="miniature", question="Well?").check(job)
