"""Fits preferences with TRL's ``RewardTrainer`` and records the run."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

from annotated_types import Ge, Lt
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import ModelConfig, RewardConfig, RewardTrainer, get_peft_config, get_quantization_config

from icm_rl.cards import public_name, write_model_card
from icm_rl.data import left_out_line, read_rows, unusable
from icm_rl.errors import InputError
from icm_rl.files import write_json, write_jsonl
from icm_rl.models import resolve
from icm_rl.reward.scorer import RewardScorer
from icm_rl.settings import INPUT, require_given
from icm_rl.shipped import shipped
from icm_rl.trainer import (
    TrainerProgress,
    end_training,
    last_complete_checkpoint,
    prepare,
    save_whole_model,
)

_ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}


@dataclass
class RewardArguments:
    """Stage 2: what the reward model is trained on."""

    preferences: Annotated[str, INPUT] = field(
        default="",
        metadata={"help": "JSON lines with prompt, chosen and rejected (TRL's preference format)."},
    )
    eval_fraction: Annotated[float, Ge(0), Lt(1)] = field(
        default=0.1, metadata={"help": "Share held out to measure accuracy and calibration."}
    )
    soft_targets: bool = field(
        default=False,
        metadata={"help": "Learn each preference with the probability that its log_odds give."},
    )
    drop_least_sure: Annotated[float, Ge(0), Lt(1)] = field(
        default=0.0, metadata={"help": "Share of the training pairs of lowest log_odds to drop."}
    )

    def __post_init__(self) -> None:
        require_given(self, "preferences")


def template_of(training: RewardConfig) -> str | None:
    """The file of the chat template that the settings name; they name it so from here on.

    Raises:
        InputError: There is no such file.
    """
    path = training.chat_template_path
    if path and path.endswith((".jinja", ".j2")):
        training.chat_template_path = shipped(path)
        if not Path(training.chat_template_path).is_file():
            raise InputError(f"{path}: no such chat template; correct --chat_template_path")
    return training.chat_template_path


def load_preferences(arguments: RewardArguments) -> Dataset:
    """Reads preferences in TRL's format, text or conversational, as conversations.

    Numbers beside them are kept where they are used: ``margin``, and ``log_odds`` as ICM gives.
    Pairs of identical or of empty responses are left out, which is said.

    Raises:
        InputError: The file or a row is bad, or a number is missing.
    """
    rows = read_rows(arguments.preferences)
    numbers = ["margin"] if any("margin" in row.values for row in rows) else []
    if arguments.soft_targets or arguments.drop_least_sure:
        numbers.append("log_odds")
    if arguments.soft_targets and "margin" in numbers:
        raise InputError(
            f"{rows[0].where}: --soft_targets and the field 'margin' exclude each other"
        )
    pairs, reasons = [], []
    for row in rows:
        pair: dict[str, Any] = {name: row.messages(name, role) for name, role in _ROLES.items()}
        reason = unusable(*(pair[name][-1]["content"] for name in ("chosen", "rejected")))
        if reason:
            reasons.append(reason)
        else:
            pairs.append(pair | {name: row.number(name) for name in numbers})
    if not pairs:
        raise InputError(f"{arguments.preferences}: every pair is one {reasons[0]}")
    if reasons and int(os.environ.get("RANK", 0)) == 0:
        print(left_out_line(arguments.preferences, reasons), file=sys.stderr)
    return Dataset.from_list(pairs)


def select_preferences(preferences: Dataset, arguments: RewardArguments, seed: int):
    """Training and held-out pairs, as the settings say; None where none are held out.

    Soft targets stand in the column ``margin``, which TRL's collator passes on.
    """
    held_out = None
    if arguments.eval_fraction > 0:
        split = preferences.train_test_split(arguments.eval_fraction, seed=seed)
        preferences, held_out = split["train"], split["test"]
    if arguments.drop_least_sure > 0:
        order = sorted(range(len(preferences)), key=preferences["log_odds"].__getitem__)
        dropped = int(arguments.drop_least_sure * len(preferences))
        preferences = preferences.select(sorted(order[dropped:]))

    def softened(row: dict[str, Any]) -> dict[str, float]:
        return {"margin": 1 / (1 + math.exp(-row["log_odds"]))}

    parts = [preferences, held_out]
    if arguments.soft_targets:
        parts = [part and part.map(softened) for part in parts]
    return parts


class SoftRewardTrainer(RewardTrainer):
    """Learns pairs whose chosen response is better with a probability, the column ``margin``.

    The loss −p·log σ(d) − (1 − p)·log σ(−d), with d the difference of the rewards, is TRL's
    −log σ(d) plus (1 − p)·d.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        target = inputs.pop("margin")  # (batch,)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)
        loss = loss + ((1 - target) * (chosen - rejected)).mean()
        return (loss, outputs) if return_outputs else loss


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
    train, held_out = select_preferences(preferences, arguments, training.seed)
    prepare(training, model)
    trainer = (SoftRewardTrainer if arguments.soft_targets else RewardTrainer)(
        model=resolve(model.model_name_or_path),
        args=training,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=_peft_config(model),
        quantization_config=get_quantization_config(model),
        callbacks=[TrainerProgress("reward model", ("loss", "accuracy"))],
    )
    trainer.remove_callback(PrinterCallback)
    too_long = _too_long(arguments.preferences, train, trainer.train_dataset, training)
    if held_out is not None:
        _too_long(arguments.preferences, held_out, trainer.eval_dataset, training)
    result = trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    metrics = {
        "pairs": len(train) - too_long,
        "too_long": too_long,
        "loss": result.training_loss,
        "seconds": round(result.metrics["train_runtime"], 2),
    }
    if held_out is not None:
        metrics |= {"eval_pairs": len(held_out), "eval_loss": trainer.evaluate()["eval_loss"]}
        scorer = RewardScorer(trainer.model_wrapped, trainer.processing_class)
        metrics |= calibration(_differences(scorer, held_out))
    save_whole_model(trainer, folder)
    if trainer.is_world_process_zero():
        write_jsonl(folder / "history.jsonl", trainer.state.log_history)
        write_model_card(
            folder,
            folder,
            f"Reward model: {folder.name}",
            f"It scores an answer by the preferences of `{public_name(arguments.preferences)}`.",
            model.model_name_or_path,
            ["reward-model", "trl"],
            metrics,
        )
        write_json(folder / "metrics.json", metrics)
    end_training(trainer.accelerator, trainer)
    return metrics


def _too_long(file: str, pairs: Dataset, kept: Dataset, training: RewardConfig) -> int:
    """How many pairs TRL has left out as longer than ``--max_length``, which is said.

    Raises:
        InputError: It has left out all.
    """
    left_out = len(pairs) - len(kept)
    what = f"{file}: {left_out:,} of {len(pairs):,} pairs are longer than --max_length"
    if not len(kept):
        raise InputError(f"{what} {training.max_length} tokens; raise it")
    if left_out and training.process_index == 0:
        print(f"warning: {what} {training.max_length} tokens and are left out", file=sys.stderr)
    return left_out


def _differences(scorer: RewardScorer, pairs: Dataset) -> list[float]:
    """The reward of each pair's chosen response less that of the rejected one."""
    chosen, rejected = (
        scorer.score([pair["prompt"] + pair[name] for pair in pairs])
        for name in ("chosen", "rejected")
    )
    return [a - b for a, b in zip(chosen, rejected, strict=True)]


def calibration(differences: Sequence[float], bins: int = 10) -> dict[str, Any]:
    """How often preferences hold that the model gives a probability of p.

    The probability of the response with the higher reward, σ(|d|), is its confidence, from 0.5 to
    1, in bins of equal width. The expected calibration error (Guo et al. 2017) is the mean
    distance of a bin's accuracy from its mean confidence, weighted by its pairs.

    Args:
        differences: The reward of each chosen response less that of the rejected one.
        bins: How many bins.

    Returns:
        ``eval_accuracy``, ``eval_calibration_error``, and ``eval_reliability``: each bin's mean
        confidence, accuracy and number of pairs, without empty bins.
    """
    filled: dict[int, list[tuple[float, bool]]] = {}
    for difference in differences:
        confidence = 1 / (1 + math.exp(-abs(difference)))
        number = min(int((confidence - 0.5) * 2 * bins), bins - 1)
        filled.setdefault(number, []).append((confidence, difference > 0))
    reliability = [
        {
            "confidence": mean(confidence for confidence, _ in filled[number]),
            "accuracy": mean(right for _, right in filled[number]),
            "pairs": len(filled[number]),
        }
        for number in sorted(filled)
    ]
    error = sum(b["pairs"] * abs(b["accuracy"] - b["confidence"]) for b in reliability)
    return {
        "eval_accuracy": mean(difference > 0 for difference in differences),
        "eval_calibration_error": error / len(differences),
        "eval_reliability": reliability,
    }


def _peft_config(model: ModelConfig):
    """TRL's LoRA settings; the reward head is always trained and saved with the adapters."""
    config = get_peft_config(model)
    if config is not None:
        config.task_type = "SEQ_CLS"
        config.modules_to_save = sorted({"score", *(config.modules_to_save or [])})
    return config
