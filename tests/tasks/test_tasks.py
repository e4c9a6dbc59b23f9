import json

import pytest

from icm_rl.errors import InputError
from icm_rl.tasks import TASKS
from icm_rl.tasks.base import Example, asymmetric, exclusive
from tests.conftest import SHARED

A, SAME, OTHER = (Example(str(k), "", "g", key) for k, key in enumerate(("7", "7", "8")))


@pytest.mark.parametrize(
    ("a", "label_a", "b", "label_b", "consistent"),
    [
        (A, True, OTHER, True, False),
        (A, True, OTHER, False, True),
        (A, False, OTHER, False, True),
        (A, True, SAME, True, True),
        (A, True, SAME, False, False),
    ],
)
def test_two_different_answers_cannot_both_be_true(a, label_a, b, label_b, consistent):
    assert exclusive(a, label_a, b, label_b) is consistent


def test_one_of_two_orders_is_true():
    assert asymmetric(A, True, OTHER, False)
    assert not asymmetric(A, True, OTHER, True)
    assert not asymmetric(A, False, OTHER, False)


def test_a_pair_becomes_both_orders(tmp_path):
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "label": 1, "human_label": False}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    data = TASKS["preferences"].load(tmp_path / "pairs.jsonl")
    first, second = data.examples
    assert "Response A: x\nResponse B: y\n" in first.text
    assert "Response A: y\nResponse B: x\n" in second.text
    assert first.text.endswith("I think this claim is")
    assert data.gold == {first.id: True, second.id: False}
    assert data.human == {first.id: False, second.id: True}


@pytest.mark.skipif(not SHARED.exists(), reason="the paper's files are not beside the project")
@pytest.mark.parametrize(
    ("task", "file", "rows", "groups"),
    [
        ("truthfulqa", "icm_truthfulqa_train.json", 2608, 652),
        ("truthfulqa", "icm_truthfulqa_test.json", 1000, None),
        ("gsm8k", "icm_gsm8k_test.json", 2972, 743),
        ("alpaca", "icm_alpaca_test.json", 934, 467),
    ],
)
def test_the_papers_files_load(task, file, rows, groups):
    data = TASKS[task].load(SHARED / file)
    assert len(data.examples) == len(data.gold) == rows
    if groups:
        assert len({example.group for example in data.examples}) == groups


def test_limit_keeps_whole_groups(data):
    few = TASKS["truthfulqa"].load(data / "facts_train.jsonl", limit=3)
    assert len(few.examples) == len(few.gold) == 12


def test_the_two_orders_of_a_pair_must_be_of_one_pair(tmp_path):
    rows = [
        {"question": "q", "choice": "x", "choice_2": "y", "consistency_id": 0},
        {"question": "q", "choice": "x", "choice_2": "z", "consistency_id": 0},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"row 2: group '0' has another prompt"):
        TASKS["alpaca"].load(tmp_path / "rows.json")
