"""Loading models and tokenizers: safetensors only, no stranger's code unless asked for."""

from inspect import signature
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from icm_rl.errors import InputError, first_line
from icm_rl.gguf import converted, is_gguf

MINIATURE = "miniature"
"""The name that stands for the embedded base model wherever a model is asked for."""


def resolve(name: str) -> str:
    """The path or Hub name of a model; ``miniature`` is the one that this package carries.

    Of ``smollm2``, and of any GGUF file, it is the directory with its conversion.

    Raises:
        InputError: A GGUF file cannot be converted.
    """
    if name == MINIATURE:
        return str(Path(__file__).parent / "miniature" / "model")
    return converted(name) if is_gguf(name) else name


def load_tokenizer(name: str, trust_remote_code: bool = False, chat: bool = False):
    """A model's tokenizer.

    Args:
        name: A directory, a ``.gguf`` file, a Hub name, ``miniature`` or ``smollm2``.
        trust_remote_code: Whether the model may run its own code.
        chat: Whether a chat template is needed.

    Raises:
        InputError: There is no tokenizer, or no chat template where one is needed.
    """
    path = resolve(name)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: no tokenizer could be loaded ({first_line(error)})") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise InputError(f"{name}: the model directory has no tokenizer; save one into it")
    if chat and tokenizer.chat_template is None:
        raise InputError(
            f"{name}: the tokenizer has no chat template; set its chat_template and save it"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(name: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """A model's configuration, without its weights.

    Raises:
        InputError: There is none.
    """
    try:
        return AutoConfig.from_pretrained(resolve(name), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no model could be loaded ({first_line(error)})") from None


CONTEXT_WITHOUT_LIMIT = 2048
"""Tokens of a prompt where neither the model nor its tokenizer has a limit: what such models, of
ALiBi or without attention, were trained on."""

_LIMITS = ("max_position_embeddings", "max_seq_len", "seq_length")


def context_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The most tokens that a model reads."""
    text = config.get_text_config()
    limits = [getattr(text, name, None) for name in _LIMITS]
    own = next((limit for limit in limits if limit), None)
    # a tokenizer without a limit says so by a number of thirty digits
    longest = tokenizer.model_max_length if tokenizer.model_max_length < 2**31 else None
    return own or longest or CONTEXT_WITHOUT_LIMIT


def attends_only(model: nn.Module) -> bool:
    """Whether all that a model keeps of a prompt are its tokens' keys and values.

    Layers with a state (recurrence, convolution) keep one that cannot be parted by tokens, and that
    padding would go into.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if "past_key_values" not in signature(inner.forward).parameters:
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def load_causal_lm(
    name: str, dtype: str = "auto", trust_remote_code: bool = False, **kwargs: Any
) -> PreTrainedModel:
    """A causal language model from safetensors, in evaluation mode.

    Raises:
        InputError: No such model could be loaded.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            resolve(name),
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            **kwargs,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{name}: no model could be loaded ({first_line(error)})") from None
    return model.eval()


def process_state() -> PartialState:
    """Which of the launched processes this is; without a GPU they talk over gloo."""
    return PartialState(cpu=not torch.accelerator.is_available())


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")
