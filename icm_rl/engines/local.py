"""A transformers causal language model in this process.

Requests are laid out as a tree of segments, so that whatever prefixes they share is computed once,
and what the model keeps of segments stays for the calls to come, as much as the budget holds.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache, partial
from itertools import chain
from pathlib import Path

import torch
from peft import PeftModel
from transformers import Cache, DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from icm_rl.engines.base import Request, first_tokens
from icm_rl.engines.branches import JoinedLayer, RowsLayer, attending, side_by_side
from icm_rl.engines.prefixes import PrefixTree, Run, Segment, run_tokens
from icm_rl.engines.states import GO_ON, StateAndJoinedLayer, StateLayer, state_tokens
from icm_rl.models import attends_only, context_length


class LocalEngine:
    """Answers requests with a causal language model.

    Args:
        model: Any transformers causal language model, on its device and in evaluation mode.
        tokenizer: The model's tokenizer.
        continuations: The labels' words, to be compared; their first tokens must differ.
        cache_tokens: How many tokens the key-value cache may hold: half of it what is kept from
            call to call, half of it the batch in work, which holds one prompt at least. What does
            not fit is computed again.

    Attributes:
        prompt_tokens: The tokens of all prompts so far.
        computed_tokens: Those of them that were computed; the others were shared or kept.
        missing_labels: 0; all log-probabilities are exact.

    Raises:
        InputError: The labels begin with the same token.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        continuations: Sequence[str],
        cache_tokens: int = 200_000,
    ):
        self.model, self.tokenizer = model, tokenizer
        self.continuations, self.cache_tokens = continuations, cache_tokens
        self.context_length = context_length(model.config, tokenizer)
        attends = attends_only(model)
        self._keeps = attends or model.config.get_text_config().model_type in GO_ON
        self._state = 0 if attends or not self._keeps else state_tokens(model)
        self.prompt_tokens = self.computed_tokens = self.missing_labels = 0
        self._encode = cache(partial(tokenizer.encode, add_special_tokens=False))
        self._tree = PrefixTree(self._encode, cache_tokens // 2, tokenizer.bos_token, self._state)
        self._label_ids = first_tokens(self._encode, continuations)
        self._branches = attends and self._can_branch()

    def _can_branch(self) -> bool:
        """Whether the model can attend by branches: asked of itself, by two prompts that share.

        Its attention may know more than keys and values (a bias, a soft cap), or not be to be had.
        """
        known = self.model.device.type in ("cpu", "cuda")
        if not known or self.model.config._attn_implementation != "sdpa":
            return False
        words = [self.tokenizer.decode([token]) for token in self._label_ids[:2]]
        asked = [Request((words[0], words[1]), word) for word in (words[0], words[0] + words[1])]
        found = []
        for self._branches in (False, True):
            try:
                found.append(self.label_log_probs(asked))
            except Exception:
                return False
            finally:
                self.forget()
        self.prompt_tokens = self.computed_tokens = 0
        exact = self.model.dtype == torch.float32
        return torch.allclose(*map(torch.tensor, found), rtol=0, atol=1e-3 if exact else 0.5)

    def with_model(self, model: PreTrainedModel) -> "LocalEngine":
        """The same engine with another model of the same tokenizer."""
        return LocalEngine(model, self.tokenizer, self.continuations, self.cache_tokens)

    def with_weights(self, folder: Path) -> "LocalEngine":
        if not (folder / "adapter_config.json").exists():
            model = type(self.model).from_pretrained(folder, dtype=self.model.dtype)
            return self.with_model(model.to(self.model.device).eval())
        adapted = PeftModel.from_pretrained(copy.deepcopy(self.model), folder)
        return self.with_model(adapted.merge_and_unload().eval())

    def count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def forget(self) -> None:
        self._tree.clear()

    @torch.inference_mode()
    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        if not self._keeps:
            return self._whole(requests)
        answers: list[tuple[float, ...]] = [()] * len(requests)
        for pending in self._tree.passes(requests):
            while pending:
                batch, pending = self._batch(pending)
                for run, log_probs in zip(batch, self._forward(batch), strict=True):
                    self.computed_tokens += run_tokens(run)
                    for index in run[-1].requests:
                        answers[index] = log_probs
                        self.prompt_tokens += run[-1].end
                    pending += self._tree.after(run[-1])
        return answers

    def _whole(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """The answers of a model that cannot go on from a segment: each prompt from its beginning.

        Prompts are batched with others of their length: padding would go into the state.
        """
        bos = self.tokenizer.bos_token
        by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for index, request in enumerate(requests):
            pieces = (*((bos,) if bos else ()), *request.context, request.query)
            prompt = list(chain.from_iterable(map(self._encode, pieces)))
            by_length[len(prompt)].append((index, prompt))
        answers: list[tuple[float, ...]] = [()] * len(requests)
        for length, prompts in by_length.items():
            most = max(1, self.cache_tokens // 2 // length)
            for start in range(0, len(prompts), most):
                indices, rows = zip(*prompts[start : start + most], strict=True)
                ids = torch.tensor(rows, device=self.model.device)
                logits = self.model(input_ids=ids, use_cache=False).logits[:, -1]
                self.prompt_tokens += ids.numel()
                self.computed_tokens += ids.numel()
                for index, answer in zip(indices, self._of_labels(logits), strict=True):
                    answers[index] = answer
        return answers

    def _of_labels(self, logits: torch.Tensor) -> list[tuple[float, ...]]:
        """The labels' log-probabilities, from the logits of a token each, (batch, vocabulary)."""
        log_probs = logits.float().log_softmax(-1)[:, self._label_ids]
        return [tuple(row) for row in log_probs.tolist()]

    def _batch(self, runs: list[Run]) -> tuple[list[Run], list[Run]]:
        """The shortest runs, of similar length, whose padded prompts fit the budget; the rest."""
        ordered = sorted(runs, key=lambda run: (run_tokens(run), run[0].past))
        shortest, past, count = run_tokens(ordered[0]), 0, 0
        for run in ordered:
            new, widest = run_tokens(run), max(past, run[0].past)
            unseen = widest == 0 and not self._branches  # padding, where nothing stands before it
            mixed = new > 1.25 * shortest or (unseen and new != shortest)
            if self._state:  # which padding would go into; with nothing before it there is none
                mixed = new != shortest or (past == 0) != (widest == 0)
            held = (new if self._branches else widest + new) + self._state
            if count and (mixed or (count + 1) * held > self.cache_tokens // 2):
                break
            past, count = widest, count + 1
        batch, rest = ordered[:count], ordered[count:]
        order = side_by_side([run[0].path()[:-1] for run in batch])
        return [batch[row] for row in order], rest

    def _forward(self, batch: list[Run]) -> list[tuple[float, ...]]:
        """One forward pass over a batch of runs.

        Each row's past and new tokens stand flush right, so that its last token is in the last
        column::

            row 0   [ past past past past new  new  new ]
            row 1   [ pad  pad  past past past past new ]

        Returns:
            For each run the log-probabilities of the labels at its last token.
        """
        device = self.model.device
        news, pasts = [run_tokens(run) for run in batch], [run[0].past for run in batch]
        new, past = max(news), max(pasts)
        ids = torch.zeros(len(batch), new, dtype=torch.long)
        positions = torch.zeros(len(batch), new, dtype=torch.long)
        mask = torch.zeros(len(batch), past + new, dtype=torch.long)
        for row, run in enumerate(batch):
            tokens = [token for segment in run for token in segment.tokens]
            ids[row, new - news[row] :] = torch.tensor(tokens)
            positions[row, new - news[row] :] = torch.arange(pasts[row], pasts[row] + news[row])
            mask[row, past + new - pasts[row] - news[row] :] = 1
        parents = [tuple(run[0].path()[:-1]) for run in batch]
        layers = [
            self._layer(kind, number, parents, pasts, news)
            for number, kind in enumerate(DynamicCache(config=self.model.config).layers)
        ]
        with attending(self.model, parents, news) if self._branches else nullcontext():
            output = self.model(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                position_ids=positions.to(device),
                past_key_values=Cache(layers=layers),
                use_cache=True,
                logits_to_keep=1,
            )
        for row, run in enumerate(batch):
            for segment in run:
                if segment.children:
                    own = slice(segment.past - run[0].past, segment.end - run[0].past)
                    self._tree.keep(segment, [layer.kept(row, own) for layer in layers])
        return self._of_labels(output.logits[:, -1])

    def _layer(
        self,
        kind: object,
        number: int,
        paths: Sequence[Sequence[Segment]],
        pasts: Sequence[int],
        news: Sequence[int],
    ) -> RowsLayer | StateLayer:
        """The cache of a layer in a forward pass, by transformers' kind of cache for it."""
        if self._branches:
            return RowsLayer(max(pasts), news)
        if not isinstance(kind, LinearAttentionLayer):
            return JoinedLayer(paths, number, pasts, news)
        if isinstance(kind, DynamicLayer):
            return StateAndJoinedLayer(paths, number, kind.number_of_states, pasts, news)
        return StateLayer(paths, number, kind.number_of_states)
