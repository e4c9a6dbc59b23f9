"""The arithmetic of PPO on token sequences, each detail under the name that the papers use.

All tensors are (batch, time) over response tokens; ``mask`` is 1 up to and including the
end-of-sequence token and 0 after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

KLEstimator = Literal["k1", "k2", "k3"]


def whiten(
    values: torch.Tensor,
    mask: torch.Tensor,
    shift_mean: bool = True,
    total: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
) -> torch.Tensor:
    """Scales unmasked entries to unit variance and, with ``shift_mean``, to zero mean.

    Args:
        values: What is whitened.
        mask: 1 for what counts.
        shift_mean: Whether the mean becomes 0; otherwise it stays.
        total: Sums a tensor over all processes, which then whiten as one.
    """
    count = total(mask.sum())
    mean = total((values * mask).sum()) / count
    variance = total(((values - mean) ** 2 * mask).sum()) / count
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask


def kl_estimate(
    log_probs: torch.Tensor, reference: torch.Tensor, estimator: KLEstimator
) -> torch.Tensor:
    """Per-token estimate of KL(policy ‖ reference) from sampled tokens.

    With r = q/p (Schulman 2020, "Approximating KL divergence"): ``k1`` is −log r, unbiased, and can
    be negative; ``k2`` is (log r)²/2, biased, and never negative; its gradient is that of the KL;
    ``k3`` is r − 1 − log r, unbiased and never negative; its gradient is that of KL(reference ‖
    policy).
    """
    log_ratio = reference - log_probs
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    return log_ratio.exp() - 1 - log_ratio


def adapted_kl_coef(
    kl_coef: float, kl: float, target: float, horizon: float, episodes: int
) -> float:
    """The KL coefficient after an update's ``episodes`` had a KL of ``kl`` an answer.

    The proportional controller of Ziegler et al. 2019, section 2.2: the error is clipped to 0.2,
    and one of e over a whole horizon of episodes multiplies the coefficient by about exp(e).
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon)


@dataclass
class RunningMoments:
    """Mean and variance of all numbers seen so far (Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def update(self, values: torch.Tensor) -> None:
        """Takes in more numbers."""
        values = values.double()
        count, mean = self.count + values.numel(), values.mean().item()
        apart = mean - self.mean
        self.squares += ((values - mean) ** 2).sum().item()
        self.squares += apart**2 * self.count * values.numel() / count
        self.mean += apart * values.numel() / count
        self.count = count

    @property
    def std(self) -> float:
        """The standard deviation; 1 where all numbers are equal."""
        return (self.squares / self.count) ** 0.5 or 1.0


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimation (Schulman et al. 2016, equation 16).

    A_t = Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} − V_t, and V = 0 after the last token.

    Returns:
        Advantages and returns (advantages + values), zero where masked.
    """
    values = values * mask
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask[:, t]
        advantages[:, t] = running
        following = values[:, t]
    return advantages, (advantages + values) * mask


def policy_loss(
    log_probs: torch.Tensor,
    old_log_probs: torch.Tensor,
    advantages: torch.Tensor,
    cliprange: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate loss of each token, and which are clipped (Schulman et al. 2017)."""
    ratio = (log_probs - old_log_probs).exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    return torch.maximum(unclipped, clipped), clipped > unclipped


def value_loss(
    values: torch.Tensor,
    old_values: torch.Tensor,
    returns: torch.Tensor,
    cliprange_value: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared error of each value, clipped around the old one, and which are clipped."""
    near = old_values + (values - old_values).clamp(-cliprange_value, cliprange_value)
    unclipped, clipped = (values - returns) ** 2, (near - returns) ** 2
    return 0.5 * torch.maximum(unclipped, clipped), clipped > unclipped
