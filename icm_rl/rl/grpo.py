"""GRPO by TRL's trainer, on the prompts and by the rewards that PPO reads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl
from trl import GRPOConfig, GRPOTrainer, ModelConfig, get_peft_config, get_quantization_config

from icm_rl.cards import write_policy_card
from icm_rl.files import append_jsonl, drop_after, write_json
from icm_rl.models import resolve
from icm_rl.rl.environment import Environment
from icm_rl.rl.prompts import Prompt
from icm_rl.rl.rewards import Reward
from icm_rl.rl.vllm import keep_base_weights, vllm_errors
from icm_rl.trainer import (
    TrainerProgress,
    end_training,
    last_complete_checkpoint,
    prepare,
    save_whole_model,
)

_NAMES = {
    "reward": "objective/scores",
    "completions/mean_length": "val/length",
    "entropy": "policy/entropy_avg",
    "clip_ratio/region_mean": "policy/clipfrac_avg",
    "loss": "loss/policy_avg",
    "learning_rate": "lr",
    "eval_reward": "eval/scores",
}
"""PPO's names of what TRL's trainer logs."""


class History(TrainerCallback):
    """Writes what the trainer logs into ``history.jsonl``, under PPO's names.

    Args:
        folder: The run's output folder.
        episodes: New answers a step.
    """

    def __init__(self, folder: Path, episodes: float):
        self.file, self.episodes = folder / "history.jsonl", episodes
        self.last: dict[str, float] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            drop_after(self.file, state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        record = as_ppo_record(logs or {})
        if record and state.is_world_process_zero:
            place = {
                "update": state.global_step,
                "episode": round(state.global_step * self.episodes),
            }
            self.last |= record
            append_jsonl(self.file, [place | record])


class SaveBetweenAnswers(TrainerCallback):
    """Puts a checkpoint that falls due off until the answers at hand are used up.

    A checkpoint holds no answers: what continues from one begins with new ones, and would take
    another path than a run left alone if others were still to be learned from.

    Args:
        passes: Forward and backward passes over the answers of one generation, of each process.
    """

    def __init__(self, passes: int):
        self.passes, self.done, self.due = passes, 0, False

    def on_substep_end(self, args, state, control, **kwargs) -> None:
        self.done += 1

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.done += 1
        self._decide(control)

    def on_epoch_end(self, args, state, control, **kwargs) -> None:
        self._decide(control)

    def _decide(self, control: TrainerControl) -> None:
        self.due |= control.should_save
        control.should_save = self.due and self.done % self.passes == 0
        self.due &= not control.should_save


def as_ppo_record(logs: Mapping[str, Any]) -> dict[str, float]:
    """What the trainer logs, by PPO's names and units: the KL is an answer's, not a token's."""
    record = {ours: float(logs[theirs]) for theirs, ours in _NAMES.items() if theirs in logs}
    if "completions/mean_length" in logs:
        length = float(logs["completions/mean_length"])
        record["val/ended"] = 1 - float(logs["completions/clipped_ratio"])
        if "kl" in logs:
            record["objective/kl"] = float(logs["kl"]) * length
    for name, value in logs.items():
        # None: no answer's prompt was of the reward's source
        own = name.startswith(("rewards/", "eval_rewards/")) and name.endswith("/mean")
        if own and value is not None:
            record[name.removesuffix("/mean").replace("eval_", "eval/", 1)] = float(value)
    return record


def train_grpo(
    training: GRPOConfig,
    model: ModelConfig,
    environment: Environment,
) -> dict[str, float]:
    """Trains, and saves the policy and its tokenizer into ``policy`` and the run's metrics.

    A run that was killed continues from its last checkpoint.

    Args:
        training: TRL's settings of GRPO.
        model: TRL's settings of a model, of LoRA and of quantisation.
        environment: What the policy answers, and what rewards its answers; it is evaluated on the
            held-out prompts as ``eval_strategy`` says.
    """
    folder = Path(training.output_dir)
    rewards, prompts, held_out = environment.rewards, environment.prompts, environment.held_out
    prepare(training, model)
    training.reward_weights = [reward.weight for reward in rewards]
    processes = training.world_size
    passes = training.per_device_train_batch_size * training.gradient_accumulation_steps
    between = SaveBetweenAnswers(training.steps_per_generation * training.num_iterations)
    history = History(folder, passes * processes / training.num_iterations)
    shown = ("reward", "kl", "completions/mean_length")
    every = [*prompts, *held_out]
    datasets = [
        Dataset.from_list([{"prompt": every[i].messages, "row": i} for i in part])
        for part in (range(len(prompts)), range(len(prompts), len(every)))
    ]
    with vllm_errors():
        trainer = GRPOTrainer(
            model=resolve(model.model_name_or_path),
            reward_funcs=[_reward_function(reward, every) for reward in rewards],
            args=training,
            train_dataset=datasets[0],
            eval_dataset=datasets[1] if held_out else None,
            processing_class=environment.tokenizer,
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
            callbacks=[TrainerProgress("GRPO", shown), history, between],
        )
        trainer.remove_callback(PrinterCallback)
        if training.use_vllm:
            keep_base_weights(trainer.vllm_generation)
        result = trainer.train(resume_from_checkpoint=last_complete_checkpoint(folder))
    save_whole_model(trainer, folder / "policy")
    metrics = {"seconds": round(result.metrics["train_runtime"], 2), **history.last}
    if trainer.is_world_process_zero():
        write_policy_card(folder, "GRPO", model.model_name_or_path, metrics)
        write_json(folder / "metrics.json", metrics)
    end_training(trainer.accelerator, trainer)
    return metrics


def _reward_function(
    reward: Reward, prompts: Sequence[Prompt]
) -> Callable[..., list[float | None]]:
    """The reward as TRL's trainer calls it; the column ``row`` says which prompt was answered."""

    def function(completions, row, **kwargs) -> list[float | None]:
        answers = [completion[-1]["content"].strip() for completion in completions]
        return reward([prompts[index] for index in row], answers)

    function.__name__ = reward.label
    return function
