"""Batches of sequences of similar length, whose shared beginnings are computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from icm_rl.models import attends_only


@dataclass(frozen=True)
class Group:
    """Sequences with the same beginning, such as a prompt's answers.

    Attributes:
        prefix: The tokens of the beginning, or none.
        rests: The tokens after it, of each sequence; none of them is empty.
        unread: How many of a rest's first tokens are not what is read.
    """

    prefix: Sequence[int]
    rests: Sequence[Sequence[int]]
    unread: int = 0


def can_share_prefixes(model: nn.Module) -> bool:
    """Whether a model's keys and values of a prefix stand for it: causal, with full attention."""
    if not attends_only(model):
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


def similar(sizes: Sequence[int], budget: int, more: int = 0) -> list[list[int]]:
    """Indices in batches, of which none is a quarter smaller than the largest of its batch.

    Args:
        sizes: The size of each item; the items of a batch are padded to its largest.
        budget: What the padded items of one batch may add up to; a single item may be more.
        more: What each item adds besides.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        largest = sizes[batches[-1][0]] if batches else 0
        full = (largest + more) * (len(batches[-1]) + 1) > budget if batches else True
        if full or sizes[index] < 0.75 * largest:
            batches.append([])
        batches[-1].append(index)
    return batches


def forward_groups(
    model: nn.Module,
    groups: Sequence[Group],
    pad_token_id: int,
    batch_tokens: int,
    read: Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor],
) -> list[list[float]]:
    """Runs a model over each group's sequences, the prefix once a group.

    ::

        prefixes  [ pad  p    p   ]     rests of the first    [ r  r  r   ]
                  [ p    p    p   ]     and of the second     [ r  r  pad ]

    Args:
        model: A causal language model or one with a head, in evaluation mode.
        groups: The sequences.
        pad_token_id: What the rests are padded with, on the right.
        batch_tokens: How many padded tokens one batch may hold, those of its prefixes included.
        read: Makes of the model's output, of the rests' tokens and of the mask of those that are
            read, (batch, time) each, a number a sequence, (batch,).

    Returns:
        For each group the numbers of its sequences.
    """
    numbers = [[0.0] * len(group.rests) for group in groups]
    for batch in similar([len(group.prefix) for group in groups], batch_tokens):
        cache, seen = _prefixes(model, [groups[index].prefix for index in batch], pad_token_id)
        members = [
            (row, index, place)
            for row, index in enumerate(batch)
            for place in range(len(groups[index].rests))
        ]
        rests = [groups[index].rests[place] for _, index, place in members]
        for part in similar([len(rest) for rest in rests], batch_tokens, seen.shape[1]):
            rows = torch.tensor([members[k][0] for k in part], device=seen.device)
            ids, mask = _padded([rests[k] for k in part], pad_token_id, "right", seen.device)
            output = model(**_inputs(cache, seen, rows, ids, mask))
            unread = [groups[members[k][1]].unread for k in part]
            places = torch.arange(ids.shape[1]).expand(ids.shape)
            read_mask = mask * (places >= torch.tensor(unread)[:, None]).to(mask)
            found = read(output, ids, read_mask)
            for k, number in zip(part, found.tolist(), strict=True):
                _, index, place = members[k]
                numbers[index][place] = number
    return numbers


def _prefixes(
    model: nn.Module, prefixes: Sequence[Sequence[int]], pad_token_id: int
) -> tuple[DynamicCache | None, torch.Tensor]:
    """The prefixes' keys and values, and the mask of their tokens, flush right, (batch, time)."""
    ids, seen = _padded(prefixes, pad_token_id, "left", next(model.parameters()).device)
    if not ids.shape[1]:
        return None, seen
    cache = DynamicCache(config=model.config)
    model.base_model(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions(seen),
        past_key_values=cache,
        use_cache=True,
    )
    return cache, seen


def positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Position ids that do not count padding, (batch, time)."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def _inputs(
    cache: DynamicCache | None,
    seen: torch.Tensor,
    rows: torch.Tensor,
    ids: torch.Tensor,
    mask: torch.Tensor,
) -> dict[str, Any]:
    """The model's inputs for the rests of some rows' prefixes."""
    if cache is None:
        return {"input_ids": ids, "attention_mask": mask}
    past = [(layer.keys[rows], layer.values[rows]) for layer in cache.layers]
    return {
        "input_ids": ids,
        "attention_mask": torch.cat([seen[rows], mask], 1),
        "position_ids": seen[rows].sum(1, keepdim=True) + torch.arange(ids.shape[1]).to(ids),
        "past_key_values": DynamicCache(past),
    }


def _padded(
    sequences: Sequence[Sequence[int]], pad_token_id: int, side: str, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(sequence, dtype=torch.long) for sequence in sequences]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad_token_id, padding_side=side)
    ones = [torch.ones_like(row) for row in rows]
    mask = pad_sequence(ones, batch_first=True, padding_side=side)
    return ids.to(device), mask.to(device)


def common_prefix(sequences: Sequence[Sequence[int]], limit: int) -> int:
    """How many tokens, at most ``limit``, all sequences begin with."""
    if len(sequences) < 2:
        return 0
    for length, tokens in enumerate(zip(*sequences, strict=False)):
        if length >= limit or len(set(tokens)) > 1:
            return length
    return min(limit, *map(len, sequences))
