import pytest

from icm_rl.errors import InputError
from icm_rl.tasks.base import Example
from icm_rl.tasks.relations import (
    asymmetric,
    exclusive,
    implication,
    load_relation,
    ordered,
    same_key,
)

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
    assert asymmetric(A, "left", OTHER, "right")
    assert not asymmetric(A, "left", OTHER, "left")


def test_the_same_answer_has_one_label():
    assert same_key(A, "red", SAME, "red")
    assert not same_key(A, "red", SAME, "blue")
    assert same_key(A, "red", OTHER, "blue")
    assert same_key(A, "red", OTHER, "red")


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("weak", "strong", "consistent"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_the_stronger_claim_implies_the_weaker(weak, strong, consistent, swapped):
    """Key 10 (say, "older than 10") is the stronger claim than key 9, though "10" < "9"."""
    pair = [(Example("0", "", "g", "9"), weak), (Example("1", "", "g", "10"), strong)]
    (a, label_a), (b, label_b) = reversed(pair) if swapped else pair
    assert implication(a, label_a, b, label_b) is consistent


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "consistent"),
    [("2", "3", True), ("2", "2", True), ("3", "2", False), ("9", "10", True), (False, True, True)],
)
def test_what_is_later_in_order_has_no_smaller_grade(first, second, consistent, swapped):
    pair = [(Example("0", "", "g", "9"), first), (Example("1", "", "g", "10"), second)]
    (a, label_a), (b, label_b) = reversed(pair) if swapped else pair
    assert ordered(a, label_a, b, label_b) is consistent


def test_equals_in_order_have_one_grade():
    assert ordered(A, "4", SAME, "4")
    assert not ordered(A, "4", SAME, "5")


def test_grades_are_numbers():
    with pytest.raises(InputError, match="the label 'good' is no number; the relation 'ordered'"):
        ordered(A, "good", OTHER, "5")


def test_equally_strong_claims_have_one_label():
    assert implication(A, True, SAME, True)
    assert not implication(A, True, SAME, False)


def test_an_implication_needs_numbers():
    with pytest.raises(InputError, match=r"the key of example '3' is 'old'; .* needs numbers"):
        implication(Example("3", "", "g", "old"), True, A, True)


def test_a_function_of_the_users_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def never_both_false(a, label_a, b, label_b):\n    return label_a or label_b\n"
    )
    relation = load_relation(f"{file}:never_both_false")
    assert relation(A, True, OTHER, True)
    assert not relation(A, False, OTHER, False)
    with pytest.raises(InputError, match="defines no function 'other'"):
        load_relation(f"{file}:other")
    with pytest.raises(InputError, match=r"none\.py cannot be read"):
        load_relation(f"{tmp_path / 'none.py'}:other")
    with pytest.raises(InputError, match="--relation 'exclusiv' is not known; give one of exclus"):
        load_relation("exclusiv")
