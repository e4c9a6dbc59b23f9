"""Fine-tuning a base model on labels, to predict others from them (Appendices D.1 and G)."""

import copy
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from accelerate import PartialState
from annotated_types import Ge, Gt
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase, get_scheduler

from icm_rl.models import load_causal_lm
from icm_rl.progress import Progress


@dataclass
class FinetuneConfig:
    """How a model learns labels, with the paper's values for Llama 8B."""

    learning_rate: Annotated[float, Gt(0)] = field(
        default=1e-5,
        metadata={"help": "Peak learning rate of fine-tuning; it falls linearly to zero."},
    )
    num_train_epochs: Annotated[int, Ge(1)] = field(
        default=3, metadata={"help": "Passes over the examples in one fine-tuning."}
    )
    train_batch_size: Annotated[int, Ge(1)] = field(
        default=16, metadata={"help": "Examples in a step of fine-tuning."}
    )
    lora_r: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "Rank of fine-tuning's LoRA adapters; 0 trains all weights."}
    )


def finetuned(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[tuple[str, str]],
    config: FinetuneConfig,
    seed: int | str,
    progress: Progress | None = None,
) -> PreTrainedModel:
    """A copy of the model that learned to continue texts by their labels.

    The loss is the cross-entropy of a label's first token after its text, which is what
    ``LocalEngine`` reads. All weights are trained in float32, whatever the model's number type.

    Args:
        model: The model to begin with; not changed.
        tokenizer: Its tokenizer.
        examples: Texts, each with its label's continuation.
        config: Hyperparameters.
        seed: Shuffles the examples and draws the adapters.
        progress: Advanced by each example that is learned.
    """
    rng = random.Random(seed)
    torch.manual_seed(rng.getrandbits(63))
    learner: PreTrainedModel | PeftModel = copy.deepcopy(model)
    if config.lora_r:
        lora = LoraConfig(
            r=config.lora_r,
            lora_alpha=2 * config.lora_r,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        learner = get_peft_model(learner, lora)
    else:
        learner.float()  # of bfloat16 weights small steps would round to none
    trained = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0)
    steps = config.num_train_epochs * math.ceil(len(examples) / config.train_batch_size)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=steps)
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encoded = [
        (
            first + tokenizer.encode(text, add_special_tokens=False),
            tokenizer.encode(label, add_special_tokens=False)[0],
        )
        for text, label in examples
    ]
    learner.train()
    for _ in range(config.num_train_epochs):
        rng.shuffle(encoded)
        for start in range(0, len(encoded), config.train_batch_size):
            batch = encoded[start : start + config.train_batch_size]
            with torch.autocast(model.device.type, torch.bfloat16, model.dtype != torch.float32):
                logits = _last_logits(learner, [ids for ids, _ in batch])
            loss = cross_entropy(logits, _labels(learner, batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if progress:
                progress.advance(len(batch), loss=loss.item())
    return (learner.merge_and_unload() if config.lora_r else learner).to(model.dtype).eval()


def trained_once(
    folder: Path, train: Callable[[], PreTrainedModel], like: PreTrainedModel
) -> PreTrainedModel:
    """The model that ``train`` makes, saved in the folder and read back from it.

    Of several processes the main one trains, and all of them read.

    Args:
        folder: Where the model is saved, whole or not at all.
        train: Makes the model.
        like: A model with the number type and the device that the result should have.
    """
    processes = PartialState()
    if processes.is_main_process and not folder.exists():
        unfinished = folder.with_suffix(".new")
        train().save_pretrained(unfinished)
        unfinished.rename(folder)
    processes.wait_for_everyone()
    dtype = str(like.dtype).removeprefix("torch.")
    return load_causal_lm(str(folder), dtype).to(like.device)


def _last_logits(model: torch.nn.Module, texts: Sequence[Sequence[int]]) -> torch.Tensor:
    """(texts, vocabulary): the logits after each text; texts stand flush right."""
    longest = max(map(len, texts))
    ids = torch.tensor([[0] * (longest - len(text)) + list(text) for text in texts])
    mask = torch.tensor([[0] * (longest - len(text)) + [1] * len(text) for text in texts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=positions.to(model.device),
        use_cache=False,
        logits_to_keep=1,
    )
    return output.logits[:, -1].float()


def _labels(model: torch.nn.Module, batch: Sequence[tuple[Sequence[int], int]]) -> torch.Tensor:
    return torch.tensor([label for _, label in batch], device=model.device)
