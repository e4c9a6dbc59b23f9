"""Attention of rows that go on from different places of a tree, without copies of what they share.

A batch's rows each have a path of kept segments before them. Joined row by row, the keys of what
rows share would be copied for each of them; here a shared stretch is attended to once, by all
queries of the rows below it, and the parts are put together by their log-sum-exp, as in "cascade
inference" (Ye et al. 2024) and in FlashDecoding::

    stretch A  ── stretch B ── row 0            queries of rows 0, 1, 2 → A
              │              └ row 1            queries of rows 0, 1    → B
              └─────────────── row 2            each row's own new tokens, causal
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from icm_rl.engines.prefixes import Segment

NAME = "icm_rl_branches"
"""How transformers knows this attention."""


@dataclass(frozen=True)
class Stretch:
    """Segments one after the other that some rows share.

    Attributes:
        first: The first of the rows; they stand side by side.
        last: The row after the last of them.
        segments: The kept segments.
    """

    first: int
    last: int
    segments: tuple[Segment, ...]


def stretches(paths: Sequence[tuple[Segment, ...]]) -> list[Stretch]:
    """The paths' shared stretches, each once; paths with a common beginning stand side by side."""
    found = []

    def split(first: int, last: int, depth: int) -> None:
        start = first
        while start < last:
            if len(paths[start]) <= depth:
                start += 1
                continue
            own, end = paths[start][depth], start + 1
            while end < last and paths[end][depth : depth + 1] == (own,):
                end += 1
            length = depth + 1
            shortest = min(len(path) for path in paths[start:end])
            while length < shortest and all(
                path[length] is paths[start][length] for path in paths[start + 1 : end]
            ):
                length += 1
            found.append(Stretch(start, end, tuple(paths[start][depth:length])))
            split(start, end, length)
            start = end

    split(0, len(paths), 0)
    return found


def side_by_side(paths: Sequence[Sequence[Segment]]) -> list[int]:
    """An order of paths in which those with a common beginning stand side by side."""
    numbers: dict[Segment, int] = {}
    keys = [[numbers.setdefault(segment, len(numbers)) for segment in path] for path in paths]
    return sorted(range(len(paths)), key=keys.__getitem__)


@dataclass
class _Batch:
    """What the attention of the batch in work is to know.

    Attributes:
        found: The shared stretches of its rows.
        mask: 0 where a new token sees another one, −∞ where not, (batch, 1, new, new).
    """

    found: list[Stretch] = field(default_factory=list)
    mask: torch.Tensor | None = None


_batch = _Batch()

_UNKNOWN = ("softcap", "s_aux", "position_bias", "sliding_window")
"""What some models' attention is given beside keys and values."""


class RowsLayer(DynamicLayer):
    """A layer's cache that keeps the new keys and values of each row, and gives the new ones alone.

    Args:
        past: The tokens before the new ones, of the row that has most.
        news: How many of the columns to come each row really has, the last ones.

    Attributes:
        rows: The new keys and values of each row, without padding, once they are computed.
    """

    def __init__(self, past: int, news: Sequence[int]):
        super().__init__()
        self.past, self.news = past, news
        self.rows: list[tuple[torch.Tensor, torch.Tensor]] = []

    def get_seq_length(self) -> int:
        return self.past

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        new = key_states.shape[2]
        self.rows = [
            (key_states[row, :, new - own :], value_states[row, :, new - own :])
            for row, own in enumerate(self.news)
        ]
        return key_states, value_states

    def kept(self, row: int, own: slice) -> tuple[torch.Tensor, ...]:
        """What a segment keeps: the keys and values of its own columns in a row."""
        keys, values = self.rows[row]
        return keys[:, own].clone(), values[:, own].clone()


class JoinedLayer(RowsLayer):
    """A layer's cache that gives each row's kept and new keys and values joined, flush right.

    Args:
        paths: The kept segments before each row.
        layer: The layer's number.
        pasts: How many tokens the segments are.
        news: How many of the columns to come each row really has, the last ones.
    """

    def __init__(
        self,
        paths: Sequence[Sequence[Segment]],
        layer: int,
        pasts: Sequence[int],
        news: Sequence[int],
    ):
        super().__init__(max(pasts), news)
        self.paths, self.layer, self.pasts = paths, layer, pasts

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        super().update(key_states, value_states)
        return self._join(key_states, 0), self._join(value_states, 1)

    def _join(self, states: torch.Tensor, part: int) -> torch.Tensor:
        _, heads, new, size = states.shape
        joined = states.new_empty(len(self.news), heads, self.past + new, size)
        for row, path in enumerate(self.paths):
            padding = self.past + new - self.pasts[row] - self.news[row]
            pieces = [states.new_zeros(heads, padding, size)]
            pieces += [segment.kept[self.layer][part] for segment in path]
            torch.cat([*pieces, self.rows[row][part]], dim=1, out=joined[row])
        return joined


@contextmanager
def attending(
    model: PreTrainedModel, paths: Sequence[tuple[Segment, ...]], news: Sequence[int]
) -> Iterator[None]:
    """Has a model attend so in one forward pass.

    Args:
        model: The model.
        paths: The kept segments before each row, ``side_by_side``.
        news: How many new tokens each row has, flush right.
    """
    new = max(news)
    columns = torch.arange(new, device=model.device)
    real = columns >= new - torch.tensor(news, device=model.device)[:, None]  # (batch, new)
    causal = columns[:, None] >= columns  # (new, new)
    # padding sees itself, so that no row of weights is empty
    mask = causal & (real[:, None, :] | torch.eye(new, dtype=torch.bool, device=model.device))
    config = model.config.get_text_config()
    own = config._attn_implementation
    # CUDA's attention asks for rows of the mask that begin at multiples of 16 values
    hidden = torch.zeros(len(news), 1, new, new + -new % 16, dtype=model.dtype, device=model.device)
    _batch.found, _batch.mask = stretches(paths), hidden[..., :new]
    _batch.mask.masked_fill_(~mask[:, None], -torch.inf)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = own
        _batch.found, _batch.mask = [], None


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it; query (batch, heads, new, size), the others likewise."""
    new, groups = query.shape[2], query.shape[1] // key.shape[1]
    if any(value is not None for name, value in kwargs.items() if name in _UNKNOWN):
        raise ValueError(f"attention by branches knows no {', '.join(_UNKNOWN)}")
    assert _batch.mask is not None
    keys, values = (states.repeat_interleave(groups, 1) for states in (key, value))
    output, total = _part(query, keys, values, _batch.mask, scaling)
    output = output.float()
    for stretch in _batch.found:
        rows = slice(stretch.first, stretch.last)
        pieces = [segment.kept[module.layer_idx] for segment in stretch.segments]
        keys, values = (torch.cat(parts, 1)[None] for parts in zip(*pieces, strict=True))
        asked = query[rows].unflatten(1, (-1, groups)).transpose(0, 1)  # (kv, rows, group, new, ·)
        seen, weight = _part(asked.flatten(1, 3)[None], keys, values, None, scaling)
        shape = (keys.shape[1], stretch.last - stretch.first, groups, new)
        seen = seen[0].unflatten(1, shape[1:]).transpose(0, 1).flatten(1, 2)
        weight = weight[0].unflatten(1, shape[1:]).transpose(0, 1).flatten(1, 2)
        both = torch.logaddexp(total[rows], weight)
        output[rows] *= (total[rows] - both).exp()[..., None]
        output[rows] += seen * (weight - both).exp()[..., None]
        total[rows] = both
    return output.to(query.dtype).transpose(1, 2).contiguous(), None


def _part(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention to some keys alone, and the log-sum-exp of its weights, (batch, heads, new)."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, 0.0, False, attn_mask=mask, scale=scaling
        )
    bias = mask if mask is None else mask.expand(-1, query.shape[1], -1, -1)
    output, total, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, keys, values, bias, True, scale=scaling
    )
    return output, total[..., : query.shape[2]]  # whose end is padding


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)
