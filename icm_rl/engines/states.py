"""Layers with a state, convolution or recurrence, that go on from where a segment ended.

Where attention keeps the keys and values of each token, such a layer keeps one state, of all tokens
so far: that of a segment's end. So a model with such layers computes one segment after the other,
and rows of one length together, since padding would go into the state.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionLayer

from icm_rl.engines.branches import JoinedLayer
from icm_rl.engines.prefixes import Segment

GO_ON = {"falcon_h1", "granitemoehybrid", "lfm2", "qwen3_5_text", "qwen3_next"}
"""Whose layers go on from a state, by several tokens at once, as in one piece (transformers 5.23).

Bamba, Mamba, Mamba 2 and RecurrentGemma do not.
"""


class StateLayer(LinearAttentionLayer):
    """A layer's states, which go on from those of kept segments.

    Args:
        paths: The kept segments before each row; all rows have some, or none has.
        layer: The layer's number.
        states: How many states the layer has.
    """

    def __init__(self, paths: Sequence[Sequence[Segment]], layer: int, states: int):
        super().__init__(number_of_states=states)
        self._begin(paths, layer)

    def _begin(self, paths: Sequence[Sequence[Segment]], layer: int) -> None:
        for number in range(self.number_of_states if paths[0] else 0):
            before = [path[-1].kept[layer][-1][number] for path in paths]
            conv, recurrent = zip(*before, strict=True)
            if conv[0] is not None:
                self.update_conv_state(torch.cat(conv), number)
            if recurrent[0] is not None:
                self.update_recurrent_state(torch.cat(recurrent), number)

    def kept(self, row: int, own: slice) -> tuple[Any, ...]:
        """What the segment keeps that ends a row: each state's convolution and recurrence."""
        states = [
            tuple(None if of is None else of[row : row + 1].clone() for of in both)
            for both in zip(self.conv_states.values(), self.recurrent_states.values(), strict=True)
        ]
        return (states,)


class StateAndJoinedLayer(StateLayer, JoinedLayer):
    """Of a layer that has attention beside a state."""

    def __init__(
        self,
        paths: Sequence[Sequence[Segment]],
        layer: int,
        states: int,
        pasts: Sequence[int],
        news: Sequence[int],
    ):
        JoinedLayer.__init__(self, paths, layer, pasts, news)
        StateLayer.__init__(self, paths, layer, states)

    def kept(self, row: int, own: slice) -> tuple[Any, ...]:
        return (*JoinedLayer.kept(self, row, own), *StateLayer.kept(self, row, own))


@torch.inference_mode()
def state_tokens(model: PreTrainedModel) -> int:
    """As much memory as all layers' states take, in tokens' keys and values."""
    cache = DynamicCache(config=model.config)
    model(torch.zeros(1, 1, dtype=torch.long, device=model.device), past_key_values=cache)

    def size(*names: str) -> int:
        found = (getattr(layer, name, None) for layer in cache.layers for name in names)
        parts = (of.values() if isinstance(of, dict) else [of] for of in found)
        return sum(t.numel() * t.element_size() for of in parts for t in of if t is not None)

    return ceil(size("conv_states", "recurrent_states") / size("keys", "values"))
