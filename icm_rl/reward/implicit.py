"""The implicit reward of a policy trained by preferences: how much likelier it makes an answer."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import selective_log_softmax

from icm_rl.batching import Group, can_share_prefixes, common_prefix, forward_groups
from icm_rl.errors import InputError
from icm_rl.models import default_device, load_causal_lm, load_tokenizer
from icm_rl.tasks.base import Messages


class ImplicitRewardScorer:
    """Scores conversations by log π(answer | prompt) − log π_ref(answer | prompt), in nats.

    That is DPO's reward (Rafailov et al. 2023) over β, up to a constant of the prompt.

    Args:
        model: The policy, a causal language model in evaluation mode.
        reference: What it was trained from, of the same tokens.
        tokenizer: The policy's tokenizer, with a chat template.
        batch_tokens: How many padded tokens one batch may hold.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reference: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        batch_tokens: int = 16_384,
    ):
        self.model, self.reference = model, reference
        self.tokenizer, self.batch_tokens = tokenizer, batch_tokens

    @classmethod
    def load(
        cls,
        name: str,
        reference: str,
        dtype: str = "auto",
        batch_tokens: int = 16_384,
        trust_remote_code: bool = False,
    ) -> "ImplicitRewardScorer":
        """A scorer by the directories or Hub names of a policy and its reference.

        Raises:
            InputError: One cannot be loaded, or their tokens differ.
        """
        tokenizer = load_tokenizer(name, trust_remote_code, chat=True)
        if load_tokenizer(reference, trust_remote_code).get_vocab() != tokenizer.get_vocab():
            raise InputError(
                f"{reference}: its tokens are not those of {name}; name the model that it was "
                "trained from"
            )
        policy, start = (
            load_causal_lm(model, dtype, trust_remote_code).to(default_device())
            for model in (name, reference)
        )
        return cls(policy, start, tokenizer, batch_tokens)

    @torch.no_grad()
    def score_groups(self, groups: Sequence[Sequence[Messages]]) -> list[list[float]]:
        """The rewards of each group's conversations, which answer one prompt."""
        share = all(map(can_share_prefixes, (self.model, self.reference)))
        prepared = [self._group(group, share) for group in groups]
        own, reference = (
            forward_groups(
                model, prepared, self.tokenizer.pad_token_id, self.batch_tokens, _log_probs
            )
            for model in (self.model, self.reference)
        )
        return [
            [one - other for one, other in zip(*both, strict=True)]
            for both in zip(own, reference, strict=True)
        ]

    def _group(self, group: Sequence[Messages], share: bool) -> Group:
        template = self.tokenizer.apply_chat_template
        prompt = template(group[0][:-1], add_generation_prompt=True, return_dict=False)
        sequences = [template(messages, return_dict=False) for messages in group]
        # where the answers begin: some templates write a prompt otherwise once it is answered
        start = min(common_prefix([prompt, sequence], len(prompt)) for sequence in sequences)
        shared = common_prefix(sequences, start - 1) if share else 0
        rests = [sequence[shared:] for sequence in sequences]
        return Group(sequences[0][:shared], rests, start - shared)


def _log_probs(output: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The sums of the log-probabilities of the tokens in the mask, (batch,)."""
    log_probs = selective_log_softmax(output.logits[:, :-1].float(), ids[:, 1:])
    return (log_probs * mask[:, 1:]).sum(1)
