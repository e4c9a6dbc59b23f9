"""Rules that gold labels are made by."""

import re

import pytest

from icm_rl.errors import InputError
from icm_rl.rules import load_rule


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("A wonderful museum with a friendly guide.", True),
        ("The worst umbrella, and I hate it.", False),
        ("It is not good.", False),
        ("The museum opens at nine.", None),
        ("", None),
    ],
)
def test_positive_is_what_vader_finds_positive(answer, accepted):
    assert load_rule("positive")("Write a review.", answer) is accepted


def test_a_rule_of_the_users_own_is_a_function_in_a_file(tmp_path):
    file = tmp_path / "short.py"
    file.write_text("def short(prompt, answer):\n    return len(answer) < len(prompt)\n")
    rule = load_rule(f"{file}:short")
    assert rule("long", "no") and not rule("no", "long")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("negative", "--rule 'negative' is not known; give 'positive' or FILE.py:FUNCTION"),
        ("no.py:f", "--rule no.py:f: no.py cannot be read (No such file or directory)"),
    ],
)
def test_a_rule_that_is_none_is_named(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        load_rule(name)
