"""The policy, its value model, and the reference that the KL divergence is measured to."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType, InitProcessGroupKwargs
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.deepspeed import (
    is_deepspeed_zero3_enabled,
    set_hf_deepspeed_config,
    unset_hf_deepspeed_config,
)
from trl import ModelConfig, get_peft_config, get_quantization_config
from trl.models.utils import prepare_deepspeed, prepare_fsdp

from icm_rl.batching import positions
from icm_rl.errors import InputError, first_line
from icm_rl.generation.rollout import log_probs_and_entropies, read_responses
from icm_rl.models import load_causal_lm, load_tokenizer, resolve
from icm_rl.rl.config import PPOConfig

_HEADS = ("score", "classifier")


def load_policy(
    config: ModelConfig, trust_remote_code: bool = False
) -> PreTrainedModel | PeftModel:
    """The policy, with fresh LoRA adapters where the settings ask for them.

    Args:
        config: TRL's settings of a model, of LoRA and of quantisation.
        trust_remote_code: Whether the model may run its own code.

    Raises:
        InputError: No such model could be loaded.
    """
    policy = load_causal_lm(
        config.model_name_or_path,
        config.dtype,
        trust_remote_code,
        **_options(config),
    )
    return _with_adapters(policy, config, "CAUSAL_LM")


def load_value_model(
    name: str,
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    trust_remote_code: bool = False,
) -> PreTrainedModel | PeftModel:
    """A token-classification model with one output, over the policy's own tokens.

    A reward model keeps its head (Stiennon et al. 2020); any other trunk gets one of zeros.

    Raises:
        InputError: No such model could be loaded, or it has other tokens than the policy.
    """
    if load_tokenizer(name, trust_remote_code).get_vocab() != tokenizer.get_vocab():
        raise InputError(
            f"{name}: a value model reads the policy's tokens, and these differ; name another "
            "--value_model, 'policy' or 'head'"
        )
    try:
        value, loading = AutoModelForTokenClassification.from_pretrained(
            resolve(name),
            num_labels=1,
            dtype=config.dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **_options(config),
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{name}: no value model could be loaded ({first_line(error)})") from None
    head = next(name for name in _HEADS if hasattr(value, name))
    fresh = [
        parameter
        for name, parameter in value.get_submodule(head).named_parameters()
        if f"{head}.{name}" in loading["missing_keys"]
    ]
    with _whole(fresh):
        for parameter in fresh:
            nn.init.zeros_(parameter)
    return _with_adapters(value, config, "TOKEN_CLS", [head])


def _whole(parameters: Sequence[nn.Parameter]) -> AbstractContextManager[object]:
    """Parameters that may be changed meanwhile, where DeepSpeed's ZeRO-3 shards them too."""
    if not is_deepspeed_zero3_enabled():
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(parameters), modifier_rank=0)


def _options(config: ModelConfig) -> dict[str, object]:
    return {
        "revision": config.model_revision,
        "attn_implementation": config.attn_implementation,
        "quantization_config": get_quantization_config(config),
    }


def _with_adapters(
    model: PreTrainedModel, config: ModelConfig, task: str, trained: Sequence[str] = ()
) -> PreTrainedModel | PeftModel:
    adapters = get_peft_config(config)
    if adapters is None:
        return model
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    adapters.task_type = task
    adapters.modules_to_save = [*(adapters.modules_to_save or []), *trained] or None
    return get_peft_model(model, adapters)


class PolicyWithValue(nn.Module):
    """The policy and its value model as one module, so that one optimizer and one wrapper do.

    Args:
        policy: A causal language model.
        value: A token-classification model with one output, over the policy's own tokens, or None
            for a linear head on the policy's own last hidden states.
    """

    def __init__(self, policy: PreTrainedModel | PeftModel, value: PreTrainedModel | None):
        super().__init__()
        self.policy = policy
        if value is None:
            hidden_size = policy.config.get_text_config().hidden_size
            self.value = nn.Linear(hidden_size, 1, dtype=torch.float32, device=policy.device)
            nn.init.zeros_(self.value.weight)
            nn.init.zeros_(self.value.bias)
        else:
            self.value = value
        self.is_gradient_checkpointing = False
        # FSDP shards each of these; the models themselves too, so that each also runs alone
        self._no_split_modules = sorted(
            {name for model in self._models() for name in model._no_split_modules or []}
            | {type(model).__name__ for model in self._models()}
        )

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None) -> None:
        for model in self._models():
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs)
        self.is_gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        for model in self._models():
            model.gradient_checkpointing_disable()
        self.is_gradient_checkpointing = False

    def _models(self) -> list[PreTrainedModel]:
        return [model for model in (self.policy, self.value) if not isinstance(model, nn.Linear)]

    def forward(
        self,
        sequences: torch.Tensor,
        attention_mask: torch.Tensor,
        response: int,
        temperature: float,
        entropy_requires_grad: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probabilities, entropies and values of the response tokens, (batch, response) each.

        The value of a token is read where the token is predicted, one position before it.
        """
        on_policy = isinstance(self.value, nn.Linear)
        output = read_responses(
            self.policy, sequences, attention_mask, response, output_hidden_states=on_policy
        )
        log_probs, entropies = log_probs_and_entropies(
            output.logits, sequences, temperature, entropy_requires_grad
        )
        if on_policy:
            states = output.hidden_states[-1][:, -response - 1 : -1]
            values = self.value(states.float())
        else:
            values = self.value(
                input_ids=sequences,
                attention_mask=attention_mask,
                position_ids=positions(attention_mask),
            ).logits[:, -response - 1 : -1]
        return log_probs, entropies, values[..., 0].float()


def make_accelerator(config: PPOConfig) -> Accelerator:
    """An ``Accelerator`` of these settings; without a GPU its processes talk over gloo.

    Raises:
        InputError: A tracker is not known or not installed.
    """
    kwargs: dict[str, Any] = {}
    if not torch.accelerator.is_available():
        deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"
        gloo = InitProcessGroupKwargs(backend="gloo")
        kwargs = {"kwargs_handlers": [gloo]} if deepspeed else {"cpu": True}
    try:
        accelerator = Accelerator(
            gradient_accumulation_steps=config.gradient_accumulation_steps,
            log_with=config.report_to or None,
            project_dir=config.output_dir,
            **kwargs,
        )
    except ValueError as error:
        if "logging capability" not in str(error):
            raise
        raise InputError(f"--report_to: {error}") from None
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": config.per_device_train_batch_size,
            "gradient_accumulation_steps": config.gradient_accumulation_steps,
            "gradient_clipping": config.max_grad_norm,
        }
    for tracker in config.report_to:
        if tracker not in map(str, accelerator.log_with):
            raise InputError(f"--report_to {tracker}: not installed; pip install {tracker}")
    return accelerator


def prepare_reference(model: PreTrainedModel, accelerator: Accelerator) -> nn.Module:
    """The frozen reference, shared out among the processes as the policy is."""
    model.requires_grad_(False)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return prepare_deepspeed(model, accelerator)
    if accelerator.distributed_type == DistributedType.FSDP:
        return prepare_fsdp(model, accelerator)
    return model.to(accelerator.device).eval()


@contextmanager
def whole_weights(plugin: DeepSpeedPlugin | None) -> Iterator[None]:
    """Models loaded meanwhile are whole in each process, where DeepSpeed's ZeRO-3 shards others."""
    if plugin is None:
        yield
        return
    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(plugin.dschf)
