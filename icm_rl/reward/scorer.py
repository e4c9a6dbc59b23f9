"""Scores conversations with a reward model, by that model's own tokenizer and chat template."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from icm_rl.batching import Group, can_share_prefixes, common_prefix, forward_groups
from icm_rl.errors import InputError, first_line
from icm_rl.models import default_device, load_tokenizer, resolve
from icm_rl.tasks.base import Messages


def load_reward_model(
    name: str, dtype: str = "auto", trust_remote_code: bool = False
) -> PreTrainedModel:
    """A sequence-classification model with one output, or LoRA adapters of one, merged.

    Raises:
        InputError: No such model could be loaded, or it has more than one output.
    """
    path, missing = resolve(name), set()
    options = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    try:
        if (Path(path) / "adapter_config.json").exists():
            from peft import AutoPeftModelForSequenceClassification

            adapted = AutoPeftModelForSequenceClassification.from_pretrained(
                path, num_labels=1, **options
            )
            model = adapted.merge_and_unload()
        else:
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                path, use_safetensors=True, output_loading_info=True, **options
            )
            missing = loading["missing_keys"]
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        line = first_line(error)
        raise InputError(f"{name}: no reward model could be loaded ({line})") from None
    if missing:
        raise InputError(
            f"{name}: has no reward head ({', '.join(sorted(missing))}); name a reward model"
        )
    if model.config.num_labels != 1:
        raise InputError(f"{name}: has {model.config.num_labels} labels; a reward model has one")
    return model.eval()


class RewardScorer:
    """Scores whole conversations, in batches of similar length.

    Args:
        model: A sequence-classification model with one output, in evaluation mode.
        tokenizer: Its tokenizer, with a chat template.
        batch_tokens: How many padded tokens one batch may hold.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        batch_tokens: int = 16_384,
    ):
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens

    @classmethod
    def load(
        cls,
        name: str,
        dtype: str = "auto",
        batch_tokens: int = 16_384,
        trust_remote_code: bool = False,
        device: torch.device | None = None,
    ) -> "RewardScorer":
        """A scorer by a reward model's directory or Hub name.

        Args:
            name: The reward model.
            dtype: Its number type.
            batch_tokens: How many padded tokens one batch may hold.
            trust_remote_code: Whether the model may run its own code.
            device: Where it runs; this machine's accelerator by default.

        Raises:
            InputError: No such model or tokenizer could be loaded.
        """
        tokenizer = load_tokenizer(name, trust_remote_code, chat=True)
        model = load_reward_model(name, dtype, trust_remote_code)
        model.config.pad_token_id = tokenizer.pad_token_id
        return cls(model.to(device or default_device()), tokenizer, batch_tokens)

    def score(self, conversations: Sequence[Messages]) -> list[float]:
        """The reward of each conversation, which ends in the assistant's answer."""
        scored = self.score_groups([[messages] for messages in conversations])
        return [rewards[0] for rewards in scored]

    @torch.no_grad()
    def score_groups(self, groups: Sequence[Sequence[Messages]]) -> list[list[float]]:
        """The rewards of each group's conversations.

        What a group's conversations begin with, the prompt, is computed once, where the model is a
        causal one with full attention.
        """
        if not groups:
            return []
        flat = [messages for group in groups for messages in group]
        encoded = iter(self.tokenizer.apply_chat_template(flat, return_dict=False))
        padding, share = self.tokenizer.pad_token_id, can_share_prefixes(self.model)
        prepared = []
        for group in groups:
            sequences = [next(encoded) for _ in group]
            # the reward is read at the last token that is not the padding's, so it stays
            ends = [_last_other_than(padding, sequence) for sequence in sequences]
            shared = common_prefix(sequences, min(ends)) if share else 0
            rests = [sequence[shared:] for sequence in sequences]
            prepared.append(Group(sequences[0][:shared], rests))

        def reward(output: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return output.logits[:, 0].float()

        return forward_groups(self.model, prepared, padding, self.batch_tokens, reward)


def _last_other_than(padding: int, sequence: Sequence[int]) -> int:
    """The last place of another token than the padding's; 0 where there is none."""
    return next((i for i in reversed(range(len(sequence))) if sequence[i] != padding), 0)


def conversation(prompt: str | Messages, answer: str) -> Messages:
    """A prompt (text or messages) with the assistant's answer."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*messages, {"role": "assistant", "content": answer}]
