"""Relations: which labels of two examples of one group contradict each other."""

from icm_rl.errors import InputError
from icm_rl.functions import load_function
from icm_rl.tasks.base import Example, Label, Relation


def exclusive(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Two different answers cannot both be True, and the same answer has one label."""
    return not (label_a and label_b) if a.key != b.key else label_a == label_b


def asymmetric(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Two directions have different labels (one of A>B and B>A is True), the same one has one."""
    return (label_a != label_b) if a.key != b.key else label_a == label_b


def same_key(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """The same answer has one label."""
    return a.key != b.key or label_a == label_b


def unrelated(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Any labels go together."""
    return True


def exactly_one(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """Two different answers cannot both be True, and of a whole group one is (``some_true``)."""
    return exclusive(a, label_a, b, label_b)


def implication(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """A claim with a larger number as its key implies those with a smaller one.

    Raises:
        InputError: A key is not a number.
    """
    strength_a, strength_b = _number("implication", a), _number("implication", b)
    if strength_a == strength_b:
        return label_a == label_b
    return bool(label_b or not label_a if strength_a > strength_b else label_a or not label_b)


def ordered(a: Example, label_a: Label, b: Example, label_b: Label) -> bool:
    """An example with a larger number as its key has no smaller label; labels are numbers too.

    Raises:
        InputError: A key or a label is not a number.
    """
    place_a, place_b = _number("ordered", a), _number("ordered", b)
    grade_a, grade_b = _grade(label_a), _grade(label_b)
    if place_a == place_b:
        return grade_a == grade_b
    return grade_a <= grade_b if place_a < place_b else grade_b <= grade_a


def _number(relation: str, example: Example) -> float:
    try:
        return float(example.key)
    except ValueError:
        raise InputError(
            f"the key of example '{example.id}' is {example.key!r}; the relation '{relation}' "
            "needs numbers, of a stronger or a better example larger ones"
        ) from None


def _grade(label: Label) -> float:
    try:
        return float(label)
    except ValueError:
        raise InputError(
            f"the label {label!r} is no number; the relation 'ordered' needs grades such as "
            '{"1": " one", "2": " two"}'
        ) from None


RELATIONS: dict[str, Relation] = {
    "exclusive": exclusive,
    "at_most_one": exclusive,
    "exactly_one": exactly_one,
    "asymmetric": asymmetric,
    "same_key": same_key,
    "implication": implication,
    "ordered": ordered,
    "none": unrelated,
}

OF_TRUE_AND_FALSE = (exclusive, exactly_one, implication)
"""The relations that have no meaning for other labels."""


def load_relation(name: str) -> Relation:
    """A relation by its name, or a function of the user's own, ``FILE.py:FUNCTION``.

    The function is called as ``function(a, label_a, b, label_b)`` with two ``Example`` of one group
    and says whether the labels are consistent.

    Raises:
        InputError: There is no such relation, file or function.
    """
    if name in RELATIONS:
        return RELATIONS[name]
    if ":" not in name:
        raise InputError(
            f"--relation '{name}' is not known; give one of {', '.join(RELATIONS)} or a function "
            "of your own as FILE.py:FUNCTION"
        )
    return load_function("relation", name)
