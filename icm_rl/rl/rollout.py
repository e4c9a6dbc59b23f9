"""Sampling answers, and reading a model's log-probabilities and values off them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import entropy_from_logits, selective_log_softmax

from icm_rl.reward.scorer import Messages


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


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Messages],
    max_new_tokens: int,
    temperature: float,
) -> Rollout:
    """Samples an answer to each prompt, or takes the likeliest tokens at temperature 0.

    Each answer stops at the end token; a batch stops with its longest answer.
    """
    ids = tokenizer.apply_chat_template(
        list(prompts), add_generation_prompt=True, return_dict=False
    )
    encoded = tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt").to(
        model.device
    )
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    sequences = model.generate(
        input_ids=encoded["input_ids"],
        attention_mask=encoded["attention_mask"],
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **(sampling if temperature > 0 else {"do_sample": False}),
        ),
    )
    responses = sequences[:, encoded["input_ids"].shape[1] :]
    is_end = responses == tokenizer.eos_token_id
    before_or_at_end = is_end.long().cumsum(1) - is_end.long() == 0
    mask = before_or_at_end.long()
    texts = [
        tokenizer.decode(row[keep.bool()], skip_special_tokens=True).strip()
        for row, keep in zip(responses, mask, strict=True)
    ]
    attention_mask = torch.cat([encoded["attention_mask"], mask], dim=1)
    return Rollout(sequences, attention_mask, mask, is_end.any(1), texts)


class PolicyWithValue(nn.Module):
    """The policy and its value model as one module, so that one optimizer and one wrapper do.

    Args:
        policy: A causal language model.
        value: A token-classification model with one output, over the policy's own tokens.
    """

    def __init__(self, policy: PreTrainedModel, value: PreTrainedModel):
        super().__init__()
        self.policy, self.value = policy, value

    def forward(
        self,
        sequences: torch.Tensor,
        attention_mask: torch.Tensor,
        response: int,
        temperature: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and values of the response tokens, (batch, response) each.

        The value of a token is read where the token is predicted, one position before it.
        """
        log_probs, entropies = response_log_probs(
            self.policy, sequences, attention_mask, response, temperature
        )
        values = self.value(
            input_ids=sequences,
            attention_mask=attention_mask,
            position_ids=positions(attention_mask),
        ).logits[:, -response - 1 : -1, 0]
        return log_probs, entropies, values.float()


def response_log_probs(
    model: PreTrainedModel,
    sequences: torch.Tensor,
    attention_mask: torch.Tensor,
    response: int,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies at the given temperature, (batch, response) each.

    Only the response's logits are computed, never the prompt's.
    """
    logits = model(
        input_ids=sequences,
        attention_mask=attention_mask,
        position_ids=positions(attention_mask),
        logits_to_keep=response + 1,
    ).logits[:, :-1]
    logits = logits.float() / temperature
    tokens = sequences[:, -response:]
    return selective_log_softmax(logits, tokens), entropy_from_logits(logits)


def positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Position ids that do not count padding, (batch, time)."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)
