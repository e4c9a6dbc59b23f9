"""Scores conversations with a reward model, by that model's own tokenizer and chat template."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from icm_rl.errors import InputError
from icm_rl.models import default_device, first_line, load_tokenizer, resolve

Messages = list[dict[str, str]]


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
    except (OSError, ValueError, KeyError, RuntimeError) as error:
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

    @torch.no_grad()
    def score(self, conversations: Sequence[Messages]) -> list[float]:
        """The reward of each conversation, which ends in the assistant's answer."""
        device = next(self.model.parameters()).device
        if not conversations:
            return []
        encoded = self.tokenizer.apply_chat_template(conversations, return_dict=False)
        rewards = [0.0] * len(encoded)
        for batch in self._batches(encoded):
            inputs = self.tokenizer.pad(
                {"input_ids": [encoded[index] for index in batch]},
                padding_side="right",
                return_tensors="pt",
            ).to(device)
            logits = self.model(**inputs).logits[:, 0].float()  # (batch,)
            for index, reward in zip(batch, logits.tolist(), strict=True):
                rewards[index] = reward
        return rewards

    def _batches(self, encoded: Sequence[list[int]]) -> list[list[int]]:
        """Indices of which none is a quarter shorter than the longest of its batch.

        Each batch, padded, fits ``batch_tokens``.
        """
        batches: list[list[int]] = []
        for index in sorted(range(len(encoded)), key=lambda i: -len(encoded[i])):
            longest = len(encoded[batches[-1][0]]) if batches else 0
            full = longest * (len(batches[-1]) + 1) > self.batch_tokens if batches else True
            if full or len(encoded[index]) < 0.75 * longest:
                batches.append([])
            batches[-1].append(index)
        return batches


def conversation(prompt: str | Messages, answer: str) -> Messages:
    """A prompt (text or messages) with the assistant's answer."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*messages, {"role": "assistant", "content": answer}]
