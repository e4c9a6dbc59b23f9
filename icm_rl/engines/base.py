"""The seam between what is asked (tasks, ICM) and who answers (an engine)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol, Self

from icm_rl.errors import InputError


@dataclass(frozen=True)
class Request:
    """How likely is each label after the query, given the demonstrations before it?

    ::

        context[0]  [1]            [2]     [3]             …  query   label
        "… is"      " True\\n\\n"   "… is"  " False\\n\\n"   …  "… is"  " True" or " False"

    Each piece is tokenized by itself, so that equal prefixes are equal token for token and an
    engine can compute them once. What is read is the probability of the label's first token at
    the query's last token.
    """

    context: tuple[str, ...]
    query: str


class Engine(Protocol):
    """Answers lists of requests; knows nothing of tasks or of ICM.

    Attributes:
        context_length: The most tokens of a prompt.
        prompt_tokens: The tokens of all prompts so far.
        computed_tokens: Those of them that were computed; the others were shared or kept.
        missing_labels: How many of the log-probabilities so far are only upper bounds.
    """

    context_length: int
    prompt_tokens: int
    computed_tokens: int
    missing_labels: int

    def count_tokens(self, text: str) -> int:
        """How many tokens the piece takes in a context."""
        ...

    def forget(self) -> None:
        """Drops what was kept of earlier requests, so that answers do not depend on them."""
        ...

    def with_weights(self, folder: Path) -> Self:
        """The same engine, its model with the weights, or the LoRA adapters, that a folder has."""
        ...

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """For each request, the log-probability of each label, in the engine's order of them."""
        ...


def first_tokens(encode: Callable[[str], list[int]], continuations: Sequence[str]) -> list[int]:
    """The first token of each continuation.

    Raises:
        InputError: Two labels begin with the same token.
    """
    tokens = [encode(words)[0] for words in continuations]
    for (one, one_token), (other, other_token) in combinations(
        zip(continuations, tokens, strict=True), 2
    ):
        if one_token == other_token:
            raise InputError(
                f"the labels {one!r} and {other!r} begin with the same token of this tokenizer, "
                "so they cannot be told apart; use another model or other labels"
            )
    return tokens
