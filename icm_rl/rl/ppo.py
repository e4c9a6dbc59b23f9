"""Proximal policy optimization of a language model against a reward model.

Follows Ziegler et al. 2019 and Stiennon et al. 2020 in the details that decide whether it works:
the KL penalty is part of the reward and the score is paid at the last token, advantages are
whitened, values are clipped, dropout is off, and the value model is a model of its own.
"""

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import (
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    get_scheduler,
)
from trl.trainer.utils import disable_dropout_in_model

from icm_rl.files import read_json, write_json, write_jsonl
from icm_rl.models import resolve
from icm_rl.progress import Progress
from icm_rl.reward.scorer import Messages, RewardScorer, conversation
from icm_rl.rl.advantages import (
    generalized_advantages,
    kl_estimate,
    masked_mean,
    policy_loss,
    value_loss,
    whiten,
)
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.prompts import prompt_indices
from icm_rl.rl.rollout import PolicyWithValue, Rollout, generate, response_log_probs


def load_value_model(name: str, policy: PreTrainedModel, trust_remote_code: bool = False):
    """A token-classification model with one output: the name's trunk under a head of zeros."""
    value = AutoModelForTokenClassification.from_pretrained(
        resolve(name),
        num_labels=1,
        dtype=policy.dtype,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
    )
    head = next(value.get_submodule(n) for n in ("score", "classifier") if hasattr(value, n))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return value


class PPO:
    """One training run: its models, its optimizer, and where it stands.

    Args:
        config: Settings.
        accelerator: Distributes the run.
        policy: The policy, in the number type in which it is to be trained.
        reference: A frozen copy of the policy.
        value: The value model.
        tokenizer: The policy's tokenizer, with a chat template.
        scorer: Scores the answers.
        prompts: What the policy answers.
    """

    def __init__(
        self,
        config: PPOConfig,
        accelerator: Accelerator,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        value: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scorer: RewardScorer,
        prompts: Sequence[Messages],
    ):
        self.config, self.accelerator, self.tokenizer = config, accelerator, tokenizer
        self.scorer, self.prompts = scorer, prompts
        self.folder = Path(config.output_dir)
        self.batch_size = config.local_batch_size * accelerator.num_processes
        self.updates = math.ceil(config.total_episodes / self.batch_size)
        self.update, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        model = PolicyWithValue(policy, value)
        disable_dropout_in_model(model)
        self.reference = reference.to(accelerator.device).eval().requires_grad_(False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, eps=1e-5)
        steps = self.updates * config.num_ppo_epochs * config.num_mini_batches
        scheduler = get_scheduler(
            config.lr_scheduler_type, optimizer, round(config.warmup_ratio * steps), steps
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.scheduler = scheduler
        accelerator.register_for_checkpointing(scheduler)

    @property
    def policy(self) -> PreTrainedModel:
        return self.accelerator.unwrap_model(self.model).policy

    def train(self) -> list[dict[str, Any]]:
        """Runs all updates, from the last checkpoint if there is one, and saves the policy.

        Returns:
            The history, one record an update.
        """
        set_seed(self.config.seed, device_specific=True)
        self._resume()
        progress = Progress("PPO", self.updates, self.update, "update")
        while self.update < self.updates:
            start = time.monotonic()
            record = self._step()
            self.update += 1
            self.seconds += time.monotonic() - start
            self.history.append(record)
            if self.accelerator.is_main_process:
                shown = {"score": "objective/scores", "kl": "objective/kl", "len": "val/length"}
                progress.advance(**{name: record[key] for name, key in shown.items()})
            if self.update % self.config.save_steps == 0 and self.update < self.updates:
                self._save()
        progress.close()
        if self.accelerator.is_main_process:
            write_jsonl(self.folder / "history.jsonl", self.history)
            self.policy.save_pretrained(self.folder / "policy")
            self.tokenizer.save_pretrained(self.folder / "policy")
        return self.history

    def _step(self) -> dict[str, float]:
        """Samples answers, scores them, and learns from them."""
        config = self.config
        first = self.update * self.batch_size + self.accelerator.process_index * (
            config.local_batch_size
        )
        indices = prompt_indices(len(self.prompts), first, config.local_batch_size, config.seed)
        prompts = [self.prompts[index] for index in indices]
        self.model.eval()
        rollout = generate(
            self.policy, self.tokenizer, prompts, config.response_length, config.temperature
        )
        scores = self._scores(prompts, rollout)
        with torch.no_grad():
            old = [
                torch.cat(parts)
                for parts in zip(
                    *(self._evaluate(rollout, rows) for rows in self._micro_batches()), strict=True
                )
            ]
        log_probs, reference, entropies, values = old  # (batch, response) each
        mask = rollout.mask
        kl = kl_estimate(log_probs, reference, config.kl_estimator) * mask
        rewards = -config.kl_coef * kl
        last = mask.sum(1) - 1
        rewards[torch.arange(len(last)), last] += scores
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False)
        advantages, returns = generalized_advantages(
            rewards, values, mask, config.gamma, config.lam
        )
        advantages = whiten(advantages, mask)
        losses = self._learn(rollout, log_probs, values, advantages, returns)
        numbers = {
            "objective/scores": scores.mean(),
            "objective/kl": kl.sum(1).mean(),
            "objective/entropy": (entropies * mask).sum(1).mean(),
            "objective/non_score_reward": (-config.kl_coef * kl).sum(1).mean(),
            "objective/rlhf_reward": (scores - config.kl_coef * kl.sum(1)).mean(),
            "val/ended": rollout.ended.float().mean(),
            "val/length": mask.sum(1).float().mean(),
            **losses,
        }
        names = list(numbers)
        stacked = torch.stack([numbers[name].to(self.accelerator.device) for name in names])
        means = self.accelerator.reduce(stacked, "mean").tolist()
        return {
            "update": self.update + 1,
            "episode": (self.update + 1) * self.batch_size,
            "lr": self.scheduler.get_last_lr()[0],
            **dict(zip(names, means, strict=True)),
        }

    def _scores(self, prompts: Sequence[Messages], rollout: Rollout) -> torch.Tensor:
        """The reward model's scores, less the penalty of answers that do not end, (batch,)."""
        conversations = [
            conversation(prompt, text) for prompt, text in zip(prompts, rollout.texts, strict=True)
        ]
        scores = torch.tensor(self.scorer.score(conversations), device=rollout.mask.device)
        penalty = self.config.missing_eos_penalty or 0.0
        return scores - penalty * (~rollout.ended).float()

    def _micro_batches(self, order: torch.Tensor | None = None) -> Sequence[torch.Tensor]:
        """Row indices, one micro-batch after the other."""
        rows = torch.arange(self.config.local_batch_size) if order is None else order
        return rows.split(self.config.per_device_train_batch_size)

    def _evaluate(self, rollout: Rollout, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Log-probabilities of policy and reference, entropies and values, before learning."""
        ids, attention = rollout.sequences[rows], rollout.attention_mask[rows]
        length, temperature = rollout.response_length, self.config.temperature
        log_probs, entropies, values = self.model(ids, attention, length, temperature)
        reference, _ = response_log_probs(self.reference, ids, attention, length, temperature)
        return log_probs, reference, entropies, values

    def _learn(
        self,
        rollout: Rollout,
        old_log_probs: torch.Tensor,
        old_values: torch.Tensor,
        advantages: torch.Tensor,
        returns: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """All epochs over one update's answers; the mean of each number over them."""
        config, totals, passes = self.config, {}, 0
        self.model.train()
        for _ in range(config.num_ppo_epochs):
            order = torch.randperm(config.local_batch_size)
            for step, rows in enumerate(self._micro_batches(order), 1):
                mask = rollout.mask[rows]
                log_probs, entropies, values = self.model(
                    rollout.sequences[rows],
                    rollout.attention_mask[rows],
                    rollout.response_length,
                    config.temperature,
                )
                surrogate, clipped = policy_loss(
                    log_probs, old_log_probs[rows], advantages[rows], mask, config.cliprange
                )
                squared, value_clipped = value_loss(
                    values, old_values[rows], returns[rows], mask, config.cliprange_value
                )
                loss = surrogate + config.vf_coef * squared
                self.accelerator.backward(loss / config.gradient_accumulation_steps)
                if step % config.gradient_accumulation_steps == 0:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                log_ratio = (log_probs - old_log_probs[rows]).detach()
                passes += 1
                for name, number in {
                    "policy/approxkl_avg": 0.5 * masked_mean(log_ratio**2, mask),
                    "policy/clipfrac_avg": clipped,
                    "policy/entropy_avg": masked_mean(entropies, mask),
                    "val/ratio": masked_mean(log_ratio.exp(), mask),
                    "val/clipfrac_avg": value_clipped,
                    "loss/policy_avg": surrogate,
                    "loss/value_avg": squared,
                }.items():
                    totals[name] = totals.get(name, 0.0) + number.detach()
        return {name: total / passes for name, total in totals.items()}

    def _save(self) -> None:
        """Writes a checkpoint: models, optimizer, schedule, random states, history, position."""
        folder = self.folder / f"checkpoint-{self.update}"
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            state = {"update": self.update, "seconds": self.seconds, "history": self.history}
            write_json(folder / "state.json", state)
            for old in self._checkpoints():
                if old != folder:
                    _remove(old)

    def _resume(self) -> None:
        complete = self._checkpoints()
        if complete:
            self.accelerator.load_state(str(complete[-1]))
            state = read_json(complete[-1] / "state.json")
            self.update, self.seconds = state["update"], state["seconds"]
            self.history = state["history"]

    def _checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest first; ``state.json`` is the last file of one."""
        found = [path.parent for path in self.folder.glob("checkpoint-*/state.json")]
        return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def _remove(folder: Path) -> None:
    """Removes a checkpoint, its ``state.json`` first, so that a half-removed one is not taken."""
    (folder / "state.json").unlink()
    shutil.rmtree(folder)
