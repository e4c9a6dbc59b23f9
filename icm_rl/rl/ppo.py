"""Proximal policy optimization of a language model against a reward.

Follows Ziegler et al. 2019 and Stiennon et al. 2020 in the details that decide whether it works:
the score is paid at the last token, the KL penalty is part of the reward (or, if asked for, of the
loss), advantages are whitened, values are clipped, and dropout is off.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from peft import PeftModel
from transformers import PreTrainedModel, get_scheduler
from trl.models import unwrap_model_for_generation
from trl.trainer.utils import disable_dropout_in_model

from icm_rl.files import append_jsonl
from icm_rl.generation.rollout import (
    Rollout,
    generate,
    log_probs_and_entropies,
    read_responses,
    sampling_noise,
)
from icm_rl.progress import Progress
from icm_rl.rl.arithmetic import (
    RunningMoments,
    adapted_kl_coef,
    generalized_advantages,
    kl_estimate,
    whiten,
)
from icm_rl.rl.checkpoints import Checkpoints
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.diagnostics import kl_by_position, update_means
from icm_rl.rl.environment import Environment
from icm_rl.rl.experience import Collected, Shaped, answer_rows
from icm_rl.rl.learning import mini_batches, token_losses
from icm_rl.rl.models import PolicyWithValue, prepare_reference
from icm_rl.rl.prompts import Prompt, prompt_indices
from icm_rl.rl.rewards import weighted_sum
from icm_rl.rl.vllm import VLLMRollouts
from icm_rl.rl.watching import Watched

_HELD_OUT = 2**40
"""Episode number of the first held-out answer: beyond any that is trained on."""


class PPO:
    """One training run: its models, its optimizer, and where it stands.

    Args:
        config: Settings.
        accelerator: Distributes the run.
        policy: The policy; the reference is the same model with its LoRA adapters off.
        reference: A copy of the policy to measure the KL divergence to, or None with adapters.
        value: The value model, or None for a head on the policy.
        environment: What the policy answers, and what rewards its answers.
    """

    def __init__(
        self,
        config: PPOConfig,
        accelerator: Accelerator,
        policy: PreTrainedModel | PeftModel,
        reference: PreTrainedModel | None,
        value: PreTrainedModel | PeftModel | None,
        environment: Environment,
    ):
        self.config, self.accelerator = config, accelerator
        self.tokenizer, self.rewards = environment.tokenizer, environment.rewards
        self.prompts, self.held_out = environment.prompts, environment.held_out
        self.folder = Path(config.output_dir)
        self.batch_size = config.local_batch_size * accelerator.num_processes
        self.updates = math.ceil(config.total_episodes / self.batch_size)
        self.update, self.seconds, self.kl_coef = 0, 0.0, config.kl_coef
        self.watched: Watched | None = None
        self.moments = RunningMoments()
        self.times: dict[str, float] = {}
        model = PolicyWithValue(policy, value)
        disable_dropout_in_model(model)
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, eps=1e-5, fused=True)
        steps = self.updates * config.num_ppo_epochs * config.num_mini_batches
        self.scheduler = get_scheduler(
            config.lr_scheduler_type, optimizer, round(config.warmup_ratio * steps), steps
        )
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.is_fsdp = accelerator.distributed_type == DistributedType.FSDP
        if self.is_fsdp:  # the first module that runs becomes its root: the whole, not the policy
            with torch.no_grad():
                token = torch.ones(1, 2, dtype=torch.long, device=accelerator.device)
                self.model(token, token, 1, config.temperature)
        self.reference = reference and prepare_reference(reference, accelerator)
        accelerator.register_for_checkpointing(self.scheduler)
        self.checkpoints = Checkpoints(self.folder, accelerator, self.model, self.tokenizer)
        own = accelerator.unwrap_model(self.model).policy
        self.vllm = (
            VLLMRollouts(config, own, accelerator, self.tokenizer) if config.use_vllm else None
        )

    def train(self) -> dict[str, float]:
        """Runs all updates, from the last checkpoint if there is one, and saves the policy.

        Returns:
            The last update's record.
        """
        config, main = self.config, self.accelerator.is_main_process
        self._resume()
        if self.held_out and self.watched is None:
            self._evaluate()
        record: dict[str, float] = {}
        progress = Progress("PPO", self.updates, self.update, "update", shown=main)
        while self.update < self.updates:
            start = time.monotonic()
            record, answers = self._step()
            self.update += 1
            due = self.update % config.eval_steps == 0 or self.update == self.updates
            if self.held_out and due:
                record |= self._evaluate()
            self.seconds += time.monotonic() - start
            self.accelerator.log(record, step=self.update)
            if main:
                append_jsonl(self.folder / "history.jsonl", [record])
                append_jsonl(self.folder / "answers.jsonl", answers[: config.sample_answers])
            shown = {"score": "objective/scores", "kl": "objective/kl", "len": "val/length"}
            progress.advance(**{name: record[key] for name, key in shown.items()})
            if config.policy_steps and self.update % config.policy_steps == 0:
                self.checkpoints.save_policy(f"policy-{self.update}")
            if self._must_end(record):
                break
            if self.update % config.save_steps == 0 and self.update < self.updates:
                self.checkpoints.save(self.update, self._state())
        progress.close()
        self.checkpoints.save_policy("policy")
        return record

    def _state(self) -> dict[str, Any]:
        """Where the run stands, beside its models, optimizer and schedule."""
        return {
            "seconds": self.seconds,
            "kl_coef": self.kl_coef,
            "watched": self.watched and asdict(self.watched),
            "moments": asdict(self.moments),
        }

    def _resume(self) -> None:
        """Takes up the last checkpoint, where there is one."""
        state = self.checkpoints.resume()
        if state:
            self.update, self.seconds = state["update"], state["seconds"]
            self.kl_coef = state["kl_coef"]
            self.watched = state["watched"] and Watched(**state["watched"])
            self.moments = RunningMoments(**state["moments"])

    def _step(self) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """One update.

        Returns:
            The update's record, and this process's answers with their scores.
        """
        # step 1. collect: sample answers, score them, read what the models say of them
        collected = self._collect()
        # step 2. shape: rewards, advantages and returns of each token
        shaped = self._shape(collected)
        # step 3. learn: all epochs over these answers
        with self._timed("train"):
            losses = self._learn(collected, shaped)
        # step 4. record
        record = self._record(collected, shaped, losses)
        if self.config.kl_target is not None:
            self.kl_coef = adapted_kl_coef(
                self.kl_coef,
                record["objective/kl"],
                self.config.kl_target,
                self.config.kl_horizon,
                self.batch_size,
            )
        return record, answer_rows(self.update + 1, collected, shaped)

    def _collect(self) -> Collected:
        config, accelerator = self.config, self.accelerator
        first = self.update * self.batch_size + accelerator.process_index * config.local_batch_size
        indices = prompt_indices(len(self.prompts), first, config.local_batch_size, config.seed)
        prompts = [self.prompts[index] for index in indices]
        with self._timed("generate"):
            rollout = self._generate(prompts, range(first, first + len(prompts)))
        with self._timed("score"):
            raw, terms = weighted_sum(self.rewards, prompts, rollout.texts)
            everywhere = self._gather([raw, *terms.values()])
        with self._timed("evaluate"):
            said = self._before(rollout)
        return Collected(prompts, rollout, raw, terms, everywhere, *said)

    def _shape(self, collected: Collected) -> Shaped:
        config, mask = self.config, collected.rollout.mask
        raw = torch.tensor(collected.raw, device=mask.device)
        scores = self._paid(raw, collected.everywhere[:, 0], collected.rollout)
        kl = kl_estimate(collected.log_probs, collected.reference, config.kl_estimator) * mask
        penalty = self.kl_coef if config.kl_penalty == "reward" else 0.0
        rewards = -penalty * kl
        last = mask.sum(1) - 1
        rewards[torch.arange(len(last)), last] += scores
        if config.whiten_rewards:
            rewards = whiten(rewards, mask, shift_mean=False, total=self._total)
        advantages, returns = generalized_advantages(
            rewards, collected.values, mask, config.gamma, config.lam
        )
        advantages = whiten(advantages, mask, total=self._total)
        return Shaped(scores, kl, penalty, advantages, returns)

    def _record(
        self, collected: Collected, shaped: Shaped, losses: dict[str, torch.Tensor]
    ) -> dict[str, float]:
        """The update's line of the history."""
        means = self._means(update_means(collected, shaped) | losses)
        most, mask = self.config.response_length, collected.rollout.mask
        positions = kl_by_position(shaped.kl, mask, most, self._total)
        columns = zip(collected.terms, collected.everywhere[:, 1:].T, strict=True)
        rewards = {
            f"rewards/{name}": column.nanmean().item()
            for name, column in columns
            if not column.isnan().all()
        }
        return {
            "update": self.update + 1,
            "episode": (self.update + 1) * self.batch_size,
            "lr": self.scheduler.get_last_lr()[0],
            "kl_coef": self.kl_coef,
            **means,
            **positions,
            **rewards,
            **{f"time/{name}": seconds for name, seconds in self.times.items()},
        }

    def _generate(self, prompts: Sequence[Prompt], episodes: Sequence[int]) -> Rollout:
        """Samples an answer to each prompt."""
        config = self.config
        messages = [prompt.messages for prompt in prompts]
        self.model.eval()
        if self.vllm:
            return self.vllm.generate(messages)
        unwrapped = unwrap_model_for_generation(self.model, self.accelerator)
        with self.accelerator.autocast(), unwrapped as model:
            return generate(
                model.policy,
                self.tokenizer,
                messages,
                config.response_length,
                config.temperature,
                sampling_noise(config.seed, episodes, config.response_length),
                config.generation_batch_size,
                self.is_fsdp,
            )

    def _paid(
        self, scores: torch.Tensor, everywhere: torch.Tensor, rollout: Rollout
    ) -> torch.Tensor:
        """What is paid at the last token of each answer, (batch,).

        Args:
            scores: The rewards of this process's answers, (batch,).
            everywhere: Those of all processes, which decide the scaling.
            rollout: This process's answers.
        """
        config = self.config
        if config.reward_scaling:
            self.moments.update(everywhere)
            scores = scores / self.moments.std
        if config.reward_clip is not None:
            scores = scores.clamp(-config.reward_clip, config.reward_clip)
        unended = (config.missing_eos_penalty or 0.0) * (~rollout.ended).float()
        return scores - unended - config.length_penalty * rollout.mask.sum(1)

    @torch.no_grad()
    def _before(self, rollout: Rollout) -> tuple[torch.Tensor, ...]:
        """What the models say of the answers before they learn.

        Returns:
            Log-probabilities of the policy and of the reference, entropies and values,
            (batch, response) each.
        """
        found = [torch.zeros(rollout.mask.shape, device=rollout.mask.device) for _ in range(4)]
        order = rollout.attention_mask.sum(1).argsort(descending=True, stable=True)
        for rows in order.split(self.config.per_device_train_batch_size):
            inputs = rollout.inputs(rows)
            log_probs, entropies, values = self.model(*inputs, self.config.temperature)
            parts = log_probs, self._reference_log_probs(*inputs), entropies, values
            for whole, part in zip(found, parts, strict=True):
                whole[rows, : part.shape[1]] = part
        return tuple(found)

    def _reference_log_probs(
        self, sequences: torch.Tensor, attention_mask: torch.Tensor, response: int
    ) -> torch.Tensor:
        """Log-probabilities of the response tokens, (batch, response)."""
        policy = self.accelerator.unwrap_model(self.model).policy
        adapters_off = policy.disable_adapter() if self.reference is None else nullcontext()
        with self.accelerator.autocast(), adapters_off:
            output = read_responses(self.reference or policy, sequences, attention_mask, response)
        return log_probs_and_entropies(output.logits, sequences, self.config.temperature)[0]

    def _learn(self, collected: Collected, shaped: Shaped) -> dict[str, torch.Tensor]:
        """All epochs over one update's answers; the mean of each number over their steps.

        A step's loss is the mean over the tokens of all its answers in all processes, however they
        are divided among passes and processes.
        """
        config, accelerator = self.config, self.accelerator
        mask, lengths = collected.rollout.mask, collected.rollout.attention_mask.sum(1)
        totals: dict[str, torch.Tensor] = {}
        self.model.train()
        for mini_batch in mini_batches(config, self.update):
            tokens = self._total(mask[mini_batch].sum()) / accelerator.num_processes
            # the longest first: what they leave free, the shorter fit in
            by_length = mini_batch[lengths[mini_batch].argsort(descending=True, stable=True)]
            for rows in by_length.split(config.per_device_train_batch_size):
                with accelerator.accumulate(self.model):
                    numbers = token_losses(
                        self.model, collected, shaped, rows, config, self.kl_coef
                    )
                    counted = mask[rows, : numbers["loss"].shape[1]] / tokens
                    loss = (numbers["loss"] * counted).sum()
                    # backward() divides by the passes of a step
                    accelerator.backward(loss * config.gradient_accumulation_steps)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
                    self.optimizer.step()
                    if accelerator.sync_gradients:
                        self.scheduler.step()
                    self.optimizer.zero_grad()
                for name, values in numbers.items():
                    part = (values.detach() * counted).sum()
                    totals[name] = totals.get(name, 0.0) + part
        steps = config.num_ppo_epochs * config.num_mini_batches
        return {name: total / steps for name, total in totals.items() if name != "loss"}

    def _evaluate(self) -> dict[str, float]:
        """The mean rewards of answers to the held-out prompts; a best policy is kept."""
        processes, count = self.accelerator.num_processes, len(self.held_out)
        own = range(self.accelerator.process_index, -(-count // processes) * processes, processes)
        prompts = [self.held_out[index % count] for index in own]
        rollout = self._generate(prompts, [_HELD_OUT + index for index in own])
        raw, terms = weighted_sum(self.rewards, prompts, rollout.texts)
        counted = [index < count for index in own]  # beyond, a prompt comes a second time
        every: list[Sequence[float | None]] = [raw, *terms.values()]
        columns = [
            [score if new else None for score, new in zip(column, counted, strict=True)]
            for column in every
        ]
        score, *means = self._gather(columns).nanmean(0).tolist()
        named = dict(zip(terms, means, strict=True))
        watched = named[self.config.watch] if self.config.watch else score
        self.watched = self.watched or Watched(watched)
        if self.watched.is_best(self.update, watched):
            self.checkpoints.save_policy("best")
        return {"eval/scores": score, "eval/lost": self.watched.lost(watched)} | {
            f"eval/rewards/{name}": value for name, value in named.items() if not math.isnan(value)
        }

    def _must_end(self, record: dict[str, float]) -> bool:
        """Whether the policy has drifted too far, or lost too much of what it had gained."""
        bounds = {"objective/kl": self.config.max_kl, "eval/lost": self.config.max_loss}
        return any(most is not None and record.get(k, 0) > most for k, most in bounds.items())

    def _gather(self, columns: Sequence[Sequence[float | None]]) -> torch.Tensor:
        """Columns of numbers from all processes, (total batch, columns); NaN where one is None."""
        rows = [[math.nan if x is None else x for x in row] for row in zip(*columns, strict=True)]
        return self.accelerator.gather(torch.tensor(rows, device=self.accelerator.device))

    def _total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        return self.accelerator.reduce(tensor, "sum")

    def _means(self, numbers: dict[str, torch.Tensor]) -> dict[str, float]:
        """The means over all processes."""
        stacked = torch.stack([number.to(self.accelerator.device) for number in numbers.values()])
        means = self.accelerator.reduce(stacked, "mean").tolist()
        return dict(zip(numbers, means, strict=True))

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Notes the seconds that a part of an update takes."""
        start = time.monotonic()
        yield
        self.times[name] = round(time.monotonic() - start, 4)
