"""One update's answers: what was sampled, what was said of it, and what is learned from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from icm_rl.generation.rollout import Rollout
from icm_rl.rl.prompts import Prompt


@dataclass(frozen=True)
class Collected:
    """One update's answers, and what was said of them before anything is learned.

    Attributes:
        prompts: What was answered.
        rollout: The answers.
        raw: Each answer's reward, the weighted sum of its terms.
        terms: By the terms' labels their scores.
        everywhere: ``raw`` and then each term, of all processes, (total batch, 1 + terms).
        log_probs: By the policy, (batch, response), as all that follow.
        reference: By the reference.
        entropies: Of the policy's next-token distributions.
        values: By the value model.
    """

    prompts: Sequence[Prompt]
    rollout: Rollout
    raw: Sequence[float]
    terms: Mapping[str, Sequence[float | None]]
    everywhere: torch.Tensor
    log_probs: torch.Tensor
    reference: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Shaped:
    """What is learned from one update's answers.

    Attributes:
        scores: What is paid at the last token of each answer, (batch,).
        kl: The KL divergence to the reference at each token, (batch, response).
        penalty: The weight of the KL penalty in the reward; 0 where it is in the loss.
        advantages: Whitened, (batch, response).
        returns: What the value model learns, (batch, response).
    """

    scores: torch.Tensor
    kl: torch.Tensor
    penalty: float
    advantages: torch.Tensor
    returns: torch.Tensor


def answer_rows(update: int, collected: Collected, shaped: Shaped) -> list[dict[str, Any]]:
    """This process's answers of an update with their scores, a row each."""
    given = zip(collected.prompts, collected.rollout.texts, shaped.scores.tolist(), strict=True)
    return [
        {
            "update": update,
            "prompt": prompt.messages[-1]["content"],
            "answer": text,
            "score": score,
            **{name: scores[row] for name, scores in collected.terms.items()},
        }
        for row, (prompt, text, score) in enumerate(given)
    ]
