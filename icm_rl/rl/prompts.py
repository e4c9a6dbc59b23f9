"""Prompts, and the order in which they are used: a function of the seed and the position alone."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from icm_rl.data import Source
from icm_rl.errors import InputError
from icm_rl.generation.rollout import encode_prompts
from icm_rl.models import context_length
from icm_rl.shipped import shipped
from icm_rl.tasks.base import Messages


@dataclass(frozen=True)
class Prompt:
    """What the policy answers.

    Attributes:
        where: The words that say where the prompt stands.
        messages: The conversation, up to the answer.
        source: Which part of a mix it comes from: the row's ``source``, or its file's name without
            the ending.
        values: All fields of its row, for the rewards.
    """

    where: str
    messages: Messages
    source: str
    values: Mapping[str, Any]


def load_prompts(paths: Sequence[str]) -> list[Prompt]:
    """Reads the ``prompt`` of each row, text or messages, of local files or data sets on the Hub.

    Raises:
        InputError: A file or a row is bad.
    """
    return [
        Prompt(
            row.where,
            row.messages("prompt", "user"),
            row.text("source") if "source" in row.values else Path(path).stem,
            row.values,
        )
        for path in paths
        for row in Source(shipped(path)).rows()
    ]


def check_lengths(
    prompts: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerBase,
    config: PretrainedConfig,
    response_length: int,
) -> None:
    """Checks that each prompt and an answer of ``response_length`` tokens fit the model's context.

    Raises:
        InputError: One does not.
    """
    context = context_length(config, tokenizer)
    encoded = encode_prompts(tokenizer, [prompt.messages for prompt in prompts])
    for prompt, count in zip(prompts, map(len, encoded), strict=True):
        if count + response_length > context:
            raise InputError(
                f"{prompt.where}: the prompt's {count} tokens and an answer of {response_length} "
                f"do not fit the model's context of {context}; shorten or remove the prompt, or "
                "lower the length of answers"
            )


def prompt_indices(count: int, start: int, number: int, seed: int) -> list[int]:
    """Which of ``count`` prompts stand at positions ``start`` to ``start + number − 1``.

    Each pass over the prompts is a fresh permutation.
    """
    permutations: dict[int, list[int]] = {}
    indices = []
    for position in range(start, start + number):
        epoch, place = divmod(position, count)
        if epoch not in permutations:
            permutations[epoch] = random.Random(f"{seed} {epoch}").sample(range(count), count)
        indices.append(permutations[epoch][place])
    return indices
