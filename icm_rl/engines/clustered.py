"""A base model on a Ray cluster: actors that hold an engine each answer what one process asks."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Self

from transformers import PreTrainedTokenizerBase

from icm_rl.cluster import Copies, joined
from icm_rl.engines.base import Request
from icm_rl.engines.loading import EngineConfig, load_engine


class _Answering:
    """What a copy is: an engine, and the one with the weights that were asked for last."""

    def __init__(self, model: str, continuations: Sequence[str], config: EngineConfig):
        self.base = load_engine(model, continuations, config)
        self.engine = self.base
        self.folder: Path | None = None

    def ask(
        self, requests: Sequence[Request], folder: Path | None
    ) -> tuple[list[tuple[float, ...]], int, int]:
        """The answers with a folder's weights, the tokens of their prompts, and those computed."""
        if folder != self.folder:
            self.engine = self.base if folder is None else self.base.with_weights(folder)
            self.folder = folder
        prompted, computed = self.engine.prompt_tokens, self.engine.computed_tokens
        answers = self.engine.label_log_probs(requests)
        prompted = self.engine.prompt_tokens - prompted
        return answers, prompted, self.engine.computed_tokens - computed

    def forget(self) -> None:
        self.engine.forget()


class ClusterEngine:
    """Answers requests by the engines of a cluster's actors.

    Args:
        model: The model, which each actor loads.
        tokenizer: Its tokenizer.
        continuations: The labels' words, to be compared.
        context_length: The longest prompt.
        config: How each actor loads it, and how many there are.

    Attributes:
        prompt_tokens: The tokens of all prompts so far.
        computed_tokens: Those of them that were computed.
        missing_labels: 0; all log-probabilities are exact.
    """

    def __init__(
        self,
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        continuations: Sequence[str],
        context_length: int,
        config: EngineConfig,
    ):
        assert config.ray_actors
        self.context_length = context_length
        self._folder: Path | None = None
        self.prompt_tokens = self.computed_tokens = self.missing_labels = 0
        self._encode = cache(partial(tokenizer.encode, add_special_tokens=False))
        alone = replace(config, ray_actors=None)
        self._copies = Copies(config.ray_actors, _Answering, model, continuations, alone)

    def count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def forget(self) -> None:
        self._copies.each("forget")

    def with_weights(self, folder: Path) -> Self:
        """The same actors, asked for the model with a folder's weights, which all can read."""
        other = copy.copy(self)
        other._folder = folder.resolve()
        other.prompt_tokens = other.computed_tokens = 0
        return other

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        pieces = self._copies.share("ask", requests, self._folder)
        self.prompt_tokens += sum(prompted for _, prompted, _ in pieces)
        self.computed_tokens += sum(computed for _, _, computed in pieces)
        return joined([answers for answers, _, _ in pieces])
