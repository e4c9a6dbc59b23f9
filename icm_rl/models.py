"""Loading models and tokenizers: safetensors only, no stranger's code unless asked for."""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

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
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no model could be loaded ({first_line(error)})") from None
    return model.eval()


def process_state() -> PartialState:
    """Which of the launched processes this is; without a GPU they talk over gloo."""
    return PartialState(cpu=not torch.accelerator.is_available())


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    return torch.accelerator.current_accelerator() or torch.device("cpu")
