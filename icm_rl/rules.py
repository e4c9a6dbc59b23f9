"""Rules that tell right answers from wrong ones, to measure by; nothing learns from them."""

from collections.abc import Callable

from icm_rl.errors import InputError
from icm_rl.functions import load_function

Rule = Callable[[str, str], bool | None]
"""Whether a rule accepts an answer to a prompt; None where it cannot tell."""

_SURE = 0.05
"""From this compound score on VADER's authors call a text positive or, below its negative, not."""


def load_rule(name: str) -> Rule:
    """A rule by its name.

    Args:
        name: ``positive``, or ``FILE.py:FUNCTION``, a function of the user's own, called with the
            prompt's and the answer's text.

    Raises:
        InputError: There is no such rule, or its library is not installed.
    """
    if name == "positive":
        return _positive()
    if ".py:" not in name:
        raise InputError(f"--rule '{name}' is not known; give 'positive' or FILE.py:FUNCTION")
    return load_function("rule", name)


def _positive() -> Rule:
    """Whether VADER's lexicon and rules find a text positive (Hutto and Gilbert 2014)."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        raise InputError(
            "--rule positive needs the extra 'sentiment': pip install icm_rl[sentiment]"
        ) from None
    analyzer = SentimentIntensityAnalyzer()

    def rule(prompt: str, answer: str) -> bool | None:
        compound = analyzer.polarity_scores(answer)["compound"]
        return compound > 0 if abs(compound) > _SURE else None

    return rule
