"""Fits preferences with TRL's ``RewardTrainer`` and records the run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import ModelConfig, RewardConfig, RewardTrainer, get_peft_config, get_quantization_config

from icm_rl.data import Row, read_rows
from icm_rl.files import write_json, write_jsonl
from icm_rl.models import resolve
from icm_rl.trainer import TrainerProgress, last_complete_checkpoint, prepare


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
    prepare(training, model)
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
    trainer.accelerator.end_training()
    return metrics


def _peft_config(model: ModelConfig):
    """TRL's LoRA settings; the reward head is always trained and saved with the adapters."""
    config = get_peft_config(model)
    if config is not None:
        config.task_type = "SEQ_CLS"
        config.modules_to_save = sorted({"score", *(config.modules_to_save or [])})
    return config
