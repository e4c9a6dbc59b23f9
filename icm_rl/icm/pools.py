"""Pools: parts of a data set that fit the model's context, consistency groups kept whole."""

import math
import random
from collections.abc import Mapping, Sequence

from icm_rl.engines import Engine
from icm_rl.errors import InputError
from icm_rl.tasks import Example, Task, group_members

LARGEST_POOL = 256
"""The paper's authors label 256 examples at a time."""


def example_tokens(example: Example, task: Task, engine: Engine) -> int:
    """The most tokens that the example takes in a context, label included."""
    return max(
        sum(map(engine.count_tokens, task.demonstration(example, label)))
        for label in task.verbalizers
    )


def check_fit(examples: Sequence[Example], tokens: Mapping[str, int], engine: Engine) -> int:
    """Checks that each example fits the model's context; how many tokens that holds.

    Raises:
        InputError: One does not.
    """
    room = engine.context_length - 1
    for example in examples:
        if tokens[example.id] > room:
            raise InputError(
                f"the example '{example.id}' takes {tokens[example.id]} tokens and the context "
                f"holds {room}; shorten it, remove it or use a model with a longer context"
            )
    return room


def drawn_groups(
    examples: Sequence[Example],
    task: Task,
    engine: Engine,
    most: int,
    room: int,
    rng: random.Random,
) -> list[Example]:
    """Whole groups in random order, as far as they fit.

    Args:
        examples: The data set.
        task: Gives the labels' length.
        engine: Counts tokens.
        most: How many examples at most.
        room: How many tokens at most.
        rng: Shuffles the groups.
    """
    groups = list(group_members(examples).values())
    rng.shuffle(groups)
    found: list[Example] = []
    for members in groups:
        room -= sum(example_tokens(example, task, engine) for example in members)
        if room < 0 or len(found) + len(members) > most:
            break
        found += members
    return found


def split_into_pools(
    examples: Sequence[Example],
    task: Task,
    engine: Engine,
    pool_size: int | None,
    rng: random.Random,
) -> list[list[Example]]:
    """Splits a data set into pools of about equal size, in random order, groups kept whole.

    Args:
        examples: The data set.
        task: Gives the labels' length.
        engine: Counts tokens and knows the context's length.
        pool_size: Examples a pool may hold, or None for as many as fit, at most 256.
        rng: Shuffles the groups.

    Raises:
        InputError: An example, a group or the pool size does not fit the context.
    """
    tokens = {example.id: example_tokens(example, task, engine) for example in examples}
    room = check_fit(examples, tokens, engine)
    groups = list(group_members(examples).values())
    weights = [sum(tokens[example.id] for example in members) for members in groups]
    largest_group = max(map(len, groups))
    fit = how_many_fit([tokens[e.id] for e in examples], room)
    if pool_size is not None and pool_size > fit and pool_size <= len(examples):
        raise InputError(
            f"a pool of {pool_size} examples does not fit the context of "
            f"{engine.context_length} tokens; {fit} fit: set --pool_size {fit} or less"
        )
    size = min(pool_size or LARGEST_POOL, fit, len(examples))
    if size < largest_group or max(weights) > room:
        raise InputError(
            f"the largest consistency group has {largest_group} examples and must stay whole, but "
            f"a pool holds {size}; raise --pool_size or use a model with a longer context"
        )
    rng.shuffle(groups)
    return _pack(groups, tokens, size, room)


def how_many_fit(tokens: Sequence[int], room: int) -> int:
    """How many examples fit the context whichever they are: the longest ones first."""
    total = 0
    for count, length in enumerate(sorted(tokens, reverse=True)):
        total += length
        if total > room:
            return count
    return len(tokens)


def _pack(
    groups: Sequence[Sequence[Example]], tokens: dict[str, int], size: int, room: int
) -> list[list[Example]]:
    """Fills the least full of as few pools as will do with one group after the other."""
    count = math.ceil(sum(map(len, groups)) / size)
    while True:
        pools: list[list[Example]] = [[] for _ in range(count)]
        for members in sorted(groups, key=len, reverse=True):
            min(pools, key=len).extend(members)
        if all(len(p) <= size and sum(tokens[e.id] for e in p) <= room for p in pools):
            return pools
        count += 1
