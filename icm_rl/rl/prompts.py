"""Prompts, and the order in which they are used: a function of the seed and the position alone."""

import random
from pathlib import Path

from icm_rl.data import read_rows
from icm_rl.reward.scorer import Messages


def load_prompts(path: str | Path) -> list[Messages]:
    """Reads the ``prompt`` of each row, text or messages, as messages.

    Raises:
        InputError: The file or a row is bad.
    """
    return [row.messages("prompt", "user") for row in read_rows(path)]


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
