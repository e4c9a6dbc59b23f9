"""What an update's answers say of the run, beside what is learned from them."""

from collections.abc import Callable

import torch

from icm_rl.rl.experience import Collected, Shaped

POSITIONS = (1, 4, 16, 64, 256)
"""Where the parts of an answer end over which the KL is shown, in tokens."""


def update_means(collected: Collected, shaped: Shaped) -> dict[str, torch.Tensor]:
    """The means over an update's answers, by the names of TRL's former PPO where it had them.

    Beside its numbers ``val/distinct``, the share of answers that are not another's, and
    ``val/score_by_length``, the correlation of an answer's score with its length: where it climbs,
    the reward is being paid for length.
    """
    mask, kl, lengths = collected.rollout.mask, shaped.kl.sum(1), collected.rollout.mask.sum(1)
    texts = collected.rollout.texts
    return {
        "objective/scores": shaped.scores.mean(),
        "objective/kl": kl.mean(),
        "objective/entropy": (collected.entropies * mask).sum(1).mean(),
        "objective/non_score_reward": -shaped.penalty * kl.mean(),
        "objective/rlhf_reward": (shaped.scores - shaped.penalty * kl).mean(),
        "val/ended": collected.rollout.ended.float().mean(),
        "val/length": lengths.float().mean(),
        "val/distinct": torch.tensor(len(set(texts)) / len(texts)),
        "val/score_by_length": correlation(shaped.scores, lengths.float()),
    }


def correlation(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Pearson's; 0 where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    return (one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-12)


def kl_by_position(
    kl: torch.Tensor,
    mask: torch.Tensor,
    most: int,
    total: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    """The mean KL of a token, by its position in the answer; of parts that some answer reaches.

    Args:
        kl: (batch, response), 0 where there is no token.
        mask: Where there is one, (batch, response).
        most: Most tokens of an answer, which may be more than any of these has.
        total: The sum over all processes.
    """
    ends = [*(position for position in POSITIONS if position < most), most]
    parts = list(zip([0, *ends], ends, strict=False))
    sums = torch.tensor([[of[:, a:b].sum() for of in (kl, mask)] for a, b in parts])
    names = [str(end) if end == start + 1 else f"{start + 1}-{end}" for start, end in parts]
    found = zip(names, total(sums.to(kl.device)).tolist(), strict=True)
    return {f"kl/{name}": value / tokens for name, (value, tokens) in found if tokens}
