"""Sampling answers, and reading a model's log-probabilities off them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from trl.trainer.utils import selective_log_softmax_and_entropy

from icm_rl.batching import positions
from icm_rl.models import attends_only
from icm_rl.tasks.base import Messages


@dataclass
class Rollout:
    """Answers to a batch of prompts.

    Attributes:
        sequences: Prompt tokens, padded on the left, then response tokens, padded on the right,
            (batch, prompt + response).
        attention_mask: 1 for tokens and 0 for padding, in the shape of ``sequences``.
        mask: 1 for response tokens up to and including the end token, (batch, response).
        ended: Whether the answer ended by itself, (batch,).
        texts: The answers as text.
    """

    sequences: torch.Tensor
    attention_mask: torch.Tensor
    mask: torch.Tensor
    ended: torch.Tensor
    texts: list[str]

    @property
    def response_length(self) -> int:
        return self.mask.shape[1]

    @property
    def responses(self) -> torch.Tensor:
        """The response tokens, (batch, response)."""
        return self.sequences[:, -self.response_length :]

    def inputs(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Some rows' sequences and attention mask without columns that are all padding.

        Returns:
            Both, (rows, time), and how many of the last columns are responses; what is read off
            them lines up with the first columns of ``mask``.
        """
        attention = self.attention_mask[rows]
        response = int(self.mask[rows].sum(1).max())
        prompt = attention.shape[1] - self.response_length
        first = prompt - int(attention[:, :prompt].sum(1).max())
        kept = slice(first, prompt + response)
        return self.sequences[rows][:, kept], attention[:, kept], response


def sampling_noise(seed: int, episodes: Sequence[int], length: int) -> torch.Tensor:
    """The chance in sampling: a number in (0, 1] for each token of each episode's answer.

    It depends on the seed and the episode alone, so that an answer does not depend on how episodes
    are batched and shared out among processes, nor on where a killed run continued.

    Returns:
        (episodes, length), in double precision.
    """
    return torch.stack(
        [
            torch.from_numpy(
                1 - np.random.Generator(np.random.Philox(key=[seed, episode])).random(length)
            )
            for episode in episodes
        ]
    )


class InverseTransformSampling(LogitsProcessor):
    """Leaves each row the one token in whose share of the cumulated probability its noise falls.

    Args:
        noise: As ``sampling_noise`` gives it, (batch, time).
        temperature: Sampling temperature.
        start: The length of the prompts.
    """

    def __init__(self, noise: torch.Tensor, temperature: float, start: int):
        self.noise, self.temperature, self.start = noise, temperature, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        cumulated = (
            (scores.float() / self.temperature).softmax(-1).cumsum(-1)
        )  # (batch, vocabulary)
        noise = self.noise[:, input_ids.shape[1] - self.start, None].to(cumulated)
        tokens = torch.searchsorted(cumulated, noise * cumulated[:, -1:])
        return torch.full_like(scores, -torch.inf).scatter(1, tokens, 0.0)


class HalfEnded(StoppingCriteria):
    """Stops a batch when half of its answers have ended, so that the others go on without them.

    Args:
        ends: The tokens that end an answer, (ends,).
        start: The length of the prompts.
    """

    def __init__(self, ends: torch.Tensor, start: int):
        self.ends, self.start = ends, start

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs) -> torch.Tensor:
        ended = torch.isin(input_ids[:, self.start :], self.ends).any(1)
        return torch.full_like(ended, 2 * int(ended.sum()) >= len(ended))


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    max_new_tokens: int,
    temperature: float,
    noise: torch.Tensor | None = None,
    batch_size: int | None = None,
    synced: bool = False,
) -> Rollout:
    """Samples an answer to each prompt, or takes the likeliest tokens at temperature 0.

    Each answer stops at the end token; when half of a batch's answers have ended, they leave it. A
    model whose layers have a state is given prompts of one length at a time, and goes on until all
    have ended.

    Args:
        model: The policy.
        tokenizer: Its tokenizer, with a chat template.
        prompts: What it answers.
        max_new_tokens: Most tokens of an answer.
        temperature: Sampling temperature.
        noise: ``sampling_noise`` of the prompts' episodes, where the temperature is above 0.
        batch_size: Answers generated at once, of prompts of similar length; all by default.
        synced: Whether all processes must take each step together, as FSDP needs; answers that
            have ended stay in their batch then.
    """
    encoded = encode_prompts(tokenizer, prompts)
    ends = torch.tensor(end_tokens(model, tokenizer), device=model.device)
    responses: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
    selects = attends_only(model)
    for rows in _batches(list(map(len, encoded)), batch_size or len(prompts), mixed=selects):
        inputs = tokenizer.pad(
            {"input_ids": [encoded[row] for row in rows]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        sequences, attention_mask = inputs["input_ids"], inputs["attention_mask"]
        start = sequences.shape[1]
        kept = {"past_key_values": DynamicCache(config=model.config)} if selects else {}
        config = GenerationConfig(
            max_length=start + max_new_tokens,
            eos_token_id=ends.tolist(),
            pad_token_id=tokenizer.pad_token_id,
            do_sample=False,
        )
        while len(rows):
            processors, criteria = LogitsProcessorList(), StoppingCriteriaList()
            if temperature > 0 and noise is not None:
                processors.append(InverseTransformSampling(noise[rows], temperature, start))
            if selects and not synced:
                criteria.append(HalfEnded(ends, start))
            with _generating_by(model, config):
                sequences = model.generate(
                    input_ids=sequences,
                    attention_mask=attention_mask,
                    **kept,
                    logits_processor=processors,
                    stopping_criteria=criteria,
                    synced_gpus=synced,
                )
            found = sequences[:, start:]
            for row, response in zip(rows, found, strict=True):
                responses[row] = response
            going = ~torch.isin(found, ends).any(1) & (found.shape[1] < max_new_tokens)
            rows, sequences = rows[going.cpu()], sequences[going]
            for cache in kept.values():
                cache.batch_select_indices(going)
            grown = sequences.shape[1] - attention_mask.shape[1]
            attention_mask = pad(attention_mask[going], (0, grown), value=1)
    return as_rollout(tokenizer, encoded, responses, ends)


def _batches(lengths: Sequence[int], most: int, mixed: bool) -> list[torch.Tensor]:
    """Rows in batches of similar length; where lengths must not be mixed, of one length each."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    parts = [order]
    if not mixed:
        parts = [list(rows) for _, rows in groupby(order, key=lengths.__getitem__)]
    return [batch for rows in parts for batch in torch.tensor(rows).split(most)]


@contextmanager
def _generating_by(model: PreTrainedModel, config: GenerationConfig) -> Iterator[None]:
    """Has a model generate by these settings alone; where one is given, its own fill the gaps."""
    own, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = own


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages]
) -> list[list[int]]:
    """The tokens of each prompt, up to where the answer begins."""
    return tokenizer.apply_chat_template(prompts, add_generation_prompt=True, return_dict=False)


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the tokenizer's and those of the model's generation config."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({tokenizer.eos_token_id, *own} - {None})


def as_rollout(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[torch.Tensor],
    ends: torch.Tensor,
) -> Rollout:
    """Prompts with the tokens that were generated after them, which may go on after the end."""
    device = ends.device
    is_end = [torch.isin(response, ends) for response in responses]
    ended = torch.stack([found.any() for found in is_end])
    responses = [
        response[: int(found.long().argmax()) + 1] if found.any() else response
        for response, found in zip(responses, is_end, strict=True)
    ]
    starts = [torch.tensor(prompt, device=device) for prompt in prompts]
    padding = tokenizer.pad_token_id

    def padded(rows: Sequence[torch.Tensor], value: int, side: str) -> torch.Tensor:
        return pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)

    mask = padded([torch.ones_like(response) for response in responses], 0, "right")
    seen = padded([torch.ones_like(start) for start in starts], 0, "left")
    tokens = [padded(starts, padding, "left"), padded(responses, padding, "right")]
    texts = [text.strip() for text in tokenizer.batch_decode(responses, skip_special_tokens=True)]
    return Rollout(torch.cat(tokens, 1), torch.cat([seen, mask], 1), mask, ended, texts)


def read_responses(
    model: PreTrainedModel,
    sequences: torch.Tensor,
    attention_mask: torch.Tensor,
    response: int,
    **kwargs: bool,
) -> CausalLMOutputWithPast:
    """A causal language model's output; its logits predict the response tokens, never the prompt's.

    Args:
        model: The model.
        sequences: Prompts and responses, (batch, prompt + response).
        attention_mask: 1 for tokens, in the shape of ``sequences``.
        response: How many of the last columns are responses.
        **kwargs: What else the model is to return.
    """
    output = model(
        input_ids=sequences,
        attention_mask=attention_mask,
        position_ids=positions(attention_mask),
        logits_to_keep=response + 1,
        use_cache=False,
        **kwargs,
    )
    output.logits = output.logits[:, :-1]
    return output


def log_probs_and_entropies(
    logits: torch.Tensor,
    sequences: torch.Tensor,
    temperature: float,
    entropy_requires_grad: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the last tokens and entropies, (batch, response) each.

    Args:
        logits: What predicts the response tokens, (batch, response, vocabulary).
        sequences: Prompts and responses, (batch, prompt + response).
        temperature: Divides the logits.
        entropy_requires_grad: Whether the entropies are to be learned from.
    """
    tokens = sequences[:, -logits.shape[1] :]
    return selective_log_softmax_and_entropy(
        logits.float(), tokens, entropy_requires_grad, temperature
    )
