"""Fits preferences with TRL's ``RewardTrainer`` and records the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import ModelConfig, RewardConfig, RewardTrainer, get_peft_config, get_quantization_config

from icm_rl.data import Row, read_rows
from icm_rl.files import write_json, write_jsonl
from icm_rl.models import resolve
from icm_rl.progress import Progress
from icm_rl.settings import changed


@dataclass
class RewardArguments:
    """Stage 2: what the reward model is trained on."""

    preferences: str = field(
        default="",
        metadata={"help": "JSON lines with prompt, chosen and rejected (TRL's preference format)."},
    )
    eval_fraction: float = field(
        default=0.1, metadata={"help": "Share of the preferences held out to measure accuracy."}
    )


def load_preferences(path: str | Path) -> Dataset:
    """Reads preferences in TRL's format, text or conversational, as conversations.

    Raises:
        InputError: The file or a row is bad.
    """
    return Dataset.from_list([_conversational(row) for row in read_rows(path)])


def _conversational(row: Row) -> dict[str, Any]:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    margin = {"margin": row["margin"]} if "margin" in row.values else {}
    return {name: row.messages(name, role) for name, role in roles.items()} | margin


class TrainerProgress(TrainerCallback):
    """Shows a transformers ``Trainer``'s steps the way every other stage shows its own."""

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


def stage_settings(
    arguments: RewardArguments, training: RewardConfig, model: ModelConfig
) -> dict[str, Any]:
    """What decides the reward model, besides the preferences and the base model themselves."""
    elsewhere = {"output_dir", "run_name", "report_to", "logging_steps", "hub_token", "use_cpu"}
    default = RewardConfig(output_dir=training.output_dir, use_cpu=True)
    return {
        "eval_fraction": arguments.eval_fraction,
        **changed(training, default, elsewhere),
        **changed(model, ModelConfig(), {"model_name_or_path"}),
    }


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that holds ``trainer_state.json``, the last file of one."""
    found = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    found.sort(key=lambda path: int(path.name.split("-")[1]))
    return str(found[-1]) if found else None


def train_reward_model(
    preferences: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    arguments: RewardArguments,
    training: RewardConfig,
    model: ModelConfig,
) -> dict[str, Any]:
    """Trains, saves model and tokenizer into ``training.output_dir``, and writes its metrics there.

    A run that was killed continues from its last checkpoint.
    """
    folder = Path(training.output_dir)
    split = {"train": preferences, "test": None}
    if arguments.eval_fraction > 0:
        split = preferences.train_test_split(arguments.eval_fraction, seed=training.seed)
    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "use_safetensors": True,
        **(training.model_init_kwargs or {}),
    }
    training.disable_tqdm = True
    trainer = RewardTrainer(
        model=resolve(model.model_name_or_path),
        args=training,
        train_dataset=split["train"],
        eval_dataset=split["test"],
        processing_class=tokenizer,
        peft_config=_peft_config(model),
        quantization_config=get_quantization_config(model),
        callbacks=[TrainerProgress("reward model", ("loss", "accuracy"))],
    )
    trainer.remove_callback(PrinterCallback)
    result = trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    metrics = {
        "pairs": len(split["train"]),
        "loss": result.training_loss,
        "seconds": round(result.metrics["train_runtime"], 2),
    }
    if split["test"] is not None:
        metrics["eval_pairs"] = len(split["test"])
        evaluation = trainer.evaluate()
        metrics |= {name: evaluation[name] for name in ("eval_loss", "eval_accuracy")}
    trainer.save_model()
    if trainer.is_world_process_zero():
        write_jsonl(folder / "history.jsonl", trainer.state.log_history)
        write_json(folder / "metrics.json", metrics)
    return metrics


def _peft_config(model: ModelConfig):
    """TRL's LoRA settings; the reward head is always trained and saved with the adapters."""
    config = get_peft_config(model)
    if config is not None:
        config.task_type = "SEQ_CLS"
        config.modules_to_save = sorted({"score", *(config.modules_to_save or [])})
    return config
