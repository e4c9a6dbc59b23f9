"""What the stages that a transformers ``Trainer`` runs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from trl import ModelConfig

from icm_rl.files import complete_checkpoints
from icm_rl.progress import Progress
from icm_rl.settings import changed


class TrainerProgress(TrainerCallback):
    """Shows a ``Trainer``'s steps the way every other stage shows its own.

    Args:
        name: What is being trained.
        metrics: The metrics shown, by the names under which they are shown.
    """

    def __init__(self, name: str, metrics: Sequence[str]):
        self.name, self.metrics, self.bar = name, metrics, None
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


def trainer_settings(training: TrainingArguments, model: ModelConfig) -> dict[str, Any]:
    """What decides the trained model, besides the data and the base model themselves."""
    elsewhere = {"output_dir", "run_name", "report_to", "logging_steps", "hub_token", "use_cpu"}
    default = type(training)(output_dir=training.output_dir, use_cpu=True)
    return {
        **changed(training, default, elsewhere),
        **changed(model, ModelConfig(), {"model_name_or_path"}),
    }


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


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that holds ``trainer_state.json``, the last file of one."""
    found = complete_checkpoints(folder, "trainer_state.json")
    return str(found[-1]) if found else None
