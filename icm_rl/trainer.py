"""What the stages that a transformers ``Trainer`` runs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from trl import ModelConfig

from icm_rl.files import check_whole, complete_checkpoints
from icm_rl.progress import Progress
from icm_rl.settings import parse


class TrainerProgress(TrainerCallback):
    """Shows a ``Trainer``'s steps the way every other stage shows its own.

    Args:
        name: What is being trained.
        metrics: The metrics shown, by the names under which they are shown.
    """

    def __init__(self, name: str, metrics: Sequence[str]):
        self.name, self.metrics = name, metrics
        self.bar: Progress | None = None
        self.numbers: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.bar = Progress(self.name, state.max_steps, state.global_step, "step")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.bar:
            self.bar.advance(**self.numbers)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.numbers |= {k: float(v) for k, v in (logs or {}).items() if k in self.metrics}

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self.bar:
            self.bar.close()


def parse_with_trainer(
    ours: type, trainer: type[TrainingArguments], args: Sequence[str] | None = None
) -> tuple[Any, Any, Any]:
    """Settings of our own, a trainer's and a model's; the CPU is taken where there is nothing else.

    Raises:
        InputError: A setting is not known or has a bad value.
    """
    defaults = {} if torch.accelerator.is_available() else {"use_cpu": True}
    return parse([ours, trainer, ModelConfig], args, defaults=defaults)


def prepare(training: TrainingArguments, model: ModelConfig) -> None:
    """Lets the trainer load the model as the settings say, and show no progress of its own."""
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,
        **(training.model_init_kwargs or {}),
    }
    training.disable_tqdm = True


def save_whole_model(trainer: Trainer, folder: Path) -> None:
    """Saves what was trained, in whole; each process calls it.

    Where FSDP saves shards, as it does best in checkpoints, a ``Trainer`` saves no model at all.
    """
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(folder))


_KEPT: list[Any] = []


def end_training(accelerator: Accelerator, *models: Any) -> None:
    """Ends a run: its trackers and, of several processes, what they talked by.

    Several processes keep what holds their process group until they end. Gloo's threads wait for
    the interpreter's lock to drop the last tensors of an exchange, and a process group that is
    dropped meanwhile waits for them with the lock held, forever (pytorch/pytorch#190489).

    Args:
        accelerator: Distributes the run.
        models: What was trained, and whatever else holds a process group.
    """
    if accelerator.num_processes > 1:
        _KEPT.extend(models)
    accelerator.end_training()


def let_go(trainer: Trainer) -> None:
    """Frees what was trained, before this process trains or loads something else.

    Models that are loaded from here on are whole, where DeepSpeed's ZeRO-3 has sharded this one.
    """
    unset_hf_deepspeed_config()
    if trainer.accelerator.num_processes > 1 and not torch.accelerator.is_available():
        _KEPT.append(trainer)  # see end_training
    trainer.accelerator.free_memory()


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that holds ``trainer_state.json``, the last file of one.

    Raises:
        InputError: It was damaged.
    """
    found = complete_checkpoints(folder, "trainer_state.json")
    if not found:
        return None
    check_whole(found[-1])
    return str(found[-1])
