"""A transformers causal language model in this process.

Requests are laid out as a trie of pieces, so that whatever prefixes they share is computed once.
The trie is computed level by level; the key-value caches in flight stay under a budget.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import torch
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from icm_rl.engines.base import Request
from icm_rl.errors import InputError

KeyValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer: (heads, time, head size) each


@dataclass
class _Node:
    """A run of tokens after its parent's, and the requests whose query ends with it."""

    tokens: list[int]
    children: list["_Node"] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)


class LocalEngine:
    """Answers requests with a causal language model.

    Args:
        model: Any transformers causal language model, on its device and in evaluation mode.
        tokenizer: The model's tokenizer.
        labels: The continuations to be compared; their first tokens must differ.
        cache_tokens: How many tokens one batch may keep in its key-value cache.

    Raises:
        InputError: The labels begin with the same token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        labels: Sequence[str],
        cache_tokens: int = 200_000,
    ):
        self.model, self.tokenizer, self.cache_tokens = model, tokenizer, cache_tokens
        self.context_length = model.config.max_position_embeddings
        self._tokens: dict[str, list[int]] = {}
        self._label_ids = [self._encode(label)[0] for label in labels]
        for (one, one_id), (other, other_id) in combinations(
            zip(labels, self._label_ids, strict=True), 2
        ):
            if one_id == other_id:
                raise InputError(
                    f"the labels {one!r} and {other!r} begin with the same token of this "
                    "tokenizer, so they cannot be told apart; use another model or other labels"
                )

    def count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def _encode(self, text: str) -> list[int]:
        if text not in self._tokens:
            self._tokens[text] = self.tokenizer.encode(text, add_special_tokens=False)
        return self._tokens[text]

    @torch.inference_mode()
    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        answers: list[tuple[float, ...]] = [()] * len(requests)
        empty: KeyValues = []
        for node, row in self._compute([(node, empty) for node in self._trie(requests)]):
            for index in node.requests:
                answers[index] = row
        return answers

    def _trie(self, requests: Sequence[Request]) -> list[_Node]:
        """The roots of the trie, chains without a fork joined into one node."""
        bos = self.tokenizer.bos_token_id
        root = _Node([] if bos is None else [bos])
        nodes: dict[tuple[int, str], _Node] = {}
        for index, request in enumerate(requests):
            node = root
            for piece in (*request.context, request.query):
                key = (id(node), piece)
                if key not in nodes:
                    nodes[key] = _Node(list(self._encode(piece)))
                    node.children.append(nodes[key])
                node = nodes[key]
            node.requests.append(index)
        for node in (root, *nodes.values()):
            while len(node.children) == 1 and not node.requests:
                child = node.children[0]
                node.tokens = node.tokens + child.tokens
                node.children, node.requests = child.children, child.requests
        return [root] if root.tokens else root.children

    def _compute(
        self, nodes: list[tuple[_Node, KeyValues]]
    ) -> Iterator[tuple[_Node, tuple[float, ...]]]:
        """Computes nodes with their parents' caches, then their descendants, batch by batch."""
        for batch in self._batches(nodes):
            log_probs, caches = self._forward(batch)
            deeper = []
            for (node, _), row, cache in zip(batch, log_probs, caches, strict=True):
                if node.requests:
                    yield node, row
                deeper += [(child, cache) for child in node.children]
            if deeper:
                yield from self._compute(deeper)

    def _batches(
        self, nodes: list[tuple[_Node, KeyValues]]
    ) -> Iterator[list[tuple[_Node, KeyValues]]]:
        """Batches of similar length whose padded caches fit the budget."""
        ordered = sorted(nodes, key=lambda pair: (len(pair[0].tokens), _length(pair[1])))
        batch: list[tuple[_Node, KeyValues]] = []
        past = 0
        for node, cache in ordered:
            new = len(node.tokens)
            widest = max(past, _length(cache))
            shortest = len(batch[0][0].tokens) if batch else new
            mixed = new > 2 * shortest or (widest == 0 and new != shortest)
            if batch and (mixed or (len(batch) + 1) * (widest + new) > self.cache_tokens):
                yield batch
                batch, widest = [], _length(cache)
            batch.append((node, cache))
            past = widest
        if batch:
            yield batch

    def _forward(
        self, batch: list[tuple[_Node, KeyValues]]
    ) -> tuple[list[tuple[float, ...]], list[KeyValues]]:
        """One forward pass over a batch of nodes.

        Each row's past and new tokens stand flush right, so that its last token is in the last
        column::

            row 0   [ past past past past new  new  new ]
            row 1   [ pad  pad  past past past past new ]

        Returns:
            For each node the log-probabilities of the two labels at its last token, and its cache.
        """
        device = self.model.device
        news = [len(node.tokens) for node, _ in batch]
        pasts = [_length(cache) for _, cache in batch]
        new, past = max(news), max(pasts)
        ids = torch.zeros(len(batch), new, dtype=torch.long)
        positions = torch.zeros(len(batch), new, dtype=torch.long)
        mask = torch.zeros(len(batch), past + new, dtype=torch.long)
        for row, (node, _) in enumerate(batch):
            ids[row, new - news[row] :] = torch.tensor(node.tokens)
            positions[row, new - news[row] :] = torch.arange(pasts[row], pasts[row] + news[row])
            mask[row, past + new - pasts[row] - news[row] :] = 1
        parents = [cache for _, cache in batch]
        layers = [
            _BranchLayer([cache[layer] if cache else None for cache in parents], news)
            for layer in range(self.model.config.get_text_config().num_hidden_layers)
        ]
        output = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=Cache(layers=layers),
            use_cache=True,
            logits_to_keep=1,
        )
        log_probs = output.logits[:, -1].float().log_softmax(-1)[:, self._label_ids]
        caches = [
            [layer.row(row) for layer in layers] if node.children else []
            for row, (node, _) in enumerate(batch)
        ]
        return [tuple(row) for row in log_probs.tolist()], caches


class _BranchLayer(DynamicLayer):
    """A layer's cache for rows that continue different parents, each row flush right.

    Args:
        parents: For each row its parent's keys and values, or None at a root.
        news: How many of the columns to come each row really has, the last ones.
    """

    def __init__(self, parents: list[tuple[torch.Tensor, torch.Tensor] | None], news: list[int]):
        super().__init__()
        self.parents, self.news = parents, news
        self.pasts = [parent[0].shape[1] if parent else 0 for parent in parents]

    def get_seq_length(self) -> int:
        return max(self.pasts)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = self._join(key_states, 0), self._join(value_states, 1)
        self.parents = []
        return self.keys, self.values

    def _join(self, states: torch.Tensor, part: int) -> torch.Tensor:
        rows, heads, new, size = states.shape
        total = max(self.pasts) + new
        joined = states.new_empty(rows, heads, total, size)
        for row, (past, own) in enumerate(zip(self.pasts, self.news, strict=True)):
            joined[row, :, : total - own - past] = 0
            if past:
                joined[row, :, total - own - past : total - own] = self.parents[row][part]
            joined[row, :, total - own :] = states[row, :, new - own :]
        return joined

    def row(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A row's keys and values, without its padding."""
        length = self.pasts[row] + self.news[row]
        return self.keys[row, :, -length:], self.values[row, :, -length:]


def _length(cache: KeyValues) -> int:
    return cache[0][0].shape[1] if cache else 0
