"""Which answers a step of PPO learns from, and its loss, token by token."""

import random
from collections.abc import Iterator

import torch
from torch import nn

from icm_rl.rl.arithmetic import kl_estimate, policy_loss, value_loss
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.experience import Collected, Shaped


def mini_batches(config: PPOConfig, update: int) -> Iterator[torch.Tensor]:
    """Which of a process's answers each optimizer step of an update learns from, (rows,).

    A function of the seed and the update alone.
    """
    key = random.Random(f"{config.seed} {update}").getrandbits(63)
    generator = torch.Generator().manual_seed(key)
    for _ in range(config.num_ppo_epochs):
        order = torch.randperm(config.local_batch_size, generator=generator)
        yield from order.chunk(config.num_mini_batches)


def token_losses(
    model: nn.Module,
    collected: Collected,
    shaped: Shaped,
    rows: torch.Tensor,
    config: PPOConfig,
    kl_coef: float,
) -> dict[str, torch.Tensor]:
    """The loss of each token of some answers and the numbers beside it, (rows, time) each.

    Args:
        model: The policy with its value model.
        collected: An update's answers.
        shaped: What is learned from them.
        rows: Which of them.
        config: Settings.
        kl_coef: The weight of the KL penalty, where it is in the loss.
    """
    inputs = collected.rollout.inputs(rows)
    old_log_probs, reference, old_values, advantages, returns = (
        tensor[rows, : inputs[2]]
        for tensor in (
            collected.log_probs,
            collected.reference,
            collected.values,
            shaped.advantages,
            shaped.returns,
        )
    )
    log_probs, entropies, values = model(*inputs, config.temperature, config.entropy_coef != 0)
    surrogate, clipped = policy_loss(log_probs, old_log_probs, advantages, config.cliprange)
    squared, value_clipped = value_loss(values, old_values, returns, config.cliprange_value)
    loss = surrogate + config.vf_coef * squared - config.entropy_coef * entropies
    if config.kl_penalty == "loss":
        loss = loss + kl_coef * kl_estimate(log_probs, reference, config.kl_estimator)
    log_ratio = (log_probs - old_log_probs).detach()
    return {
        "loss": loss,
        "policy/approxkl_avg": 0.5 * log_ratio**2,
        "policy/clipfrac_avg": clipped,
        "policy/entropy_avg": entropies,
        "val/ratio": log_ratio.exp(),
        "val/clipfrac_avg": value_clipped,
        "loss/policy_avg": surrogate,
        "loss/value_avg": squared,
    }
