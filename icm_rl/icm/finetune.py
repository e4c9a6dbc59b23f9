"""Fine-tuning a base model on labels, to predict others from them (Appendices D.1 and G)."""

import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from annotated_types import Ge, Gt
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from icm_rl.errors import InputError
from icm_rl.files import check_whole, read_json, write_json
from icm_rl.models import load_causal_lm, load_config, load_tokenizer
from icm_rl.progress import Progress
from icm_rl.settings import EXECUTION
from icm_rl.trainer import last_complete_checkpoint, let_go, save_whole_model

_SPENT = "training.json"
"""In a model's folder the seconds that its training took."""
_LOG_STEPS = 10


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
        default=16, metadata={"help": "Examples in a step of fine-tuning, of all processes."}
    )
    lora_r: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "Rank of fine-tuning's LoRA adapters; 0 trains all weights."}
    )
    gradient_accumulation_steps: Annotated[int, Ge(1), EXECUTION] = field(
        default=1, metadata={"help": "Passes in which a process learns its share of a step."}
    )
    gradient_checkpointing: Annotated[bool, EXECUTION] = field(
        default=False, metadata={"help": "Compute activations again in the backward pass."}
    )
    save_steps: Annotated[int, Ge(1), EXECUTION] = field(
        default=500, metadata={"help": "Steps of fine-tuning between two checkpoints."}
    )

    def examples_in_a_pass(self, processes: int) -> int:
        """How many examples each process learns at once.

        Raises:
            InputError: A step cannot be shared out in equal parts.
        """
        parts = processes * self.gradient_accumulation_steps
        if self.train_batch_size % parts:
            raise InputError(
                f"--train_batch_size {self.train_batch_size} is not a multiple of the processes "
                f"({processes}) times --gradient_accumulation_steps "
                f"({self.gradient_accumulation_steps}); change one of them"
            )
        return self.train_batch_size // parts


@dataclass(frozen=True)
class BaseModel:
    """The model that learns.

    Attributes:
        name: A directory, a Hub name, ``miniature`` or ``smollm2``.
        dtype: The number type in which it is used; ``auto`` is its own.
        trust_remote_code: Whether it may run its own code.
    """

    name: str
    dtype: str = "auto"
    trust_remote_code: bool = False

    @property
    def is_half(self) -> bool:
        """Whether its number type has half of float32's bits."""
        if self.dtype != "auto":
            return self.dtype != "float32"
        own = load_config(self.name, self.trust_remote_code).dtype
        return own not in (None, torch.float32)

    def read(self, dtype: str, folder: Path | None = None) -> PreTrainedModel:
        """Its weights, or those of a folder that has learned."""
        return load_causal_lm(str(folder or self.name), dtype, self.trust_remote_code)


def fine_tune(
    base: BaseModel,
    examples: Sequence[tuple[str, str]],
    config: FinetuneConfig,
    seed: str,
    folder: Path,
    begun: Path | None = None,
    progress: Progress | None = None,
) -> float:
    """Trains a model to continue texts by their labels, and saves it or its adapters.

    The loss is the cross-entropy of a label's first token after its text, which is what
    ``LocalEngine`` reads. All weights are trained in float32, whatever the model's number type.

    Several processes train it together, as ``accelerate launch`` says, and each calls this. A model
    that is there is not trained again; a training that was killed goes on from its last checkpoint.

    Args:
        base: The model to begin with.
        examples: Texts, each with its label's continuation.
        config: Hyperparameters.
        seed: Shuffles the examples and draws the adapters.
        folder: Where the model is saved, whole or not at all.
        begun: A folder of this function's, to begin with in the place of the base model.
        progress: Advanced by each example that is learned.

    Returns:
        The seconds that it took, those of all processes together.

    Raises:
        InputError: What an earlier run has saved is damaged.
    """
    unfinished = folder.with_suffix(".unfinished")
    if not folder.exists():
        number = random.Random(seed).getrandbits(32)
        arguments = _arguments(base, config, number, unfinished)
        set_seed(number)
        watch = _Watch(unfinished / _SPENT, len(examples), progress)
        trainer = _LabelTrainer(
            model=_learner(base, config, begun),
            args=arguments,
            train_dataset=_encoded(base, examples),
            data_collator=_flush_right,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=last_complete_checkpoint(unfinished))
        whole = unfinished / "model"
        save_whole_model(trainer, whole)
        if trainer.is_world_process_zero():
            write_json(whole / _SPENT, {"seconds": watch.seconds * arguments.world_size})
            whole.rename(folder)
        let_go(trainer)
        PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    check_whole(folder)
    return float(read_json(folder / _SPENT)["seconds"])


def _learner(
    base: BaseModel, config: FinetuneConfig, begun: Path | None
) -> PreTrainedModel | PeftModel:
    """What is trained; DeepSpeed's ZeRO-3 shards it as it is read."""
    if not config.lora_r:
        # of bfloat16 weights small steps would round to none
        return base.read("float32", begun)
    model = base.read(base.dtype)
    if begun:
        return PeftModel.from_pretrained(model, begun, is_trainable=True)
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=2 * config.lora_r,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def _arguments(
    base: BaseModel, config: FinetuneConfig, seed: int, folder: Path
) -> TrainingArguments:
    processes, on_cpu = PartialState().num_processes, not torch.accelerator.is_available()
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.examples_in_a_pass(processes),
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        activation_checkpointing=config.gradient_checkpointing,
        num_train_epochs=config.num_train_epochs,
        learning_rate=config.learning_rate,
        weight_decay=0.0,
        bf16=base.is_half,
        seed=seed,
        save_steps=config.save_steps,
        save_total_limit=1,
        logging_steps=_LOG_STEPS,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        use_cpu=on_cpu and not parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"),
        ddp_backend="gloo" if on_cpu and processes > 1 else None,
        dataloader_pin_memory=not on_cpu,
    )


class _LabelTrainer(Trainer):
    """Learns the one token that stands after each text."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs, use_cache=False, logits_to_keep=1)
        loss = cross_entropy(outputs.logits[:, -1].float(), labels)
        return (loss, outputs) if return_outputs else loss


class _Watch(TrainerCallback):
    """Shows what has been learned, and keeps the time that it took beside each checkpoint.

    Args:
        file: Where the time is kept.
        examples: How many there are.
        progress: Counts those that were learned, each time that they were.
    """

    def __init__(self, file: Path, examples: int, progress: Progress | None):
        self.file, self.examples, self.progress = file, examples, progress
        self.numbers: dict[str, float] = {}
        self.learned, self.start = 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """The time so far, that of earlier starts too."""
        return time.monotonic() - self.start

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if self.file.exists():  # of a kill between the checkpoint and this file it tells less
            self.start -= read_json(self.file)["seconds"]
        if state.global_step:
            self._advance(state.epoch)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._advance(state.epoch)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.numbers |= {k: float(v) for k, v in (logs or {}).items() if k == "loss"}

    def on_save(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            write_json(self.file, {"seconds": self.seconds})

    def _advance(self, epoch: float) -> None:
        done = round(epoch * self.examples)
        if self.progress:
            self.progress.advance(done - self.learned, **self.numbers)
        self.learned = done


def _encoded(base: BaseModel, examples: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    tokenizer = load_tokenizer(base.name, base.trust_remote_code)
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [
        {
            "ids": first + tokenizer.encode(text, add_special_tokens=False),
            "label": tokenizer.encode(label, add_special_tokens=False)[0],
        }
        for text, label in examples
    ]


def _flush_right(rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Texts side by side, (texts, tokens), whose ends, and so their labels, are in one column."""
    longest = max(len(row["ids"]) for row in rows)
    padding = [longest - len(row["ids"]) for row in rows]
    ids = [[0] * pad + row["ids"] for pad, row in zip(padding, rows, strict=True)]
    mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
    return {
        "input_ids": torch.tensor(ids),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "labels": torch.tensor([row["label"] for row in rows]),
    }
