"""A reward of answers to held-out prompts over training: it rises, and then it may fall."""

import math
from dataclasses import dataclass

from icm_rl.errors import InputError
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.environment import Environment


@dataclass
class Watched:
    """How far it has come.

    Attributes:
        first: Its value before training.
        score: Its highest value that was taken up.
        update: After which update that was.
        last: The share of its gain that the last value had lost.
    """

    first: float
    score: float = -math.inf
    update: int = 0
    last: float = 0.0

    def is_best(self, update: int, value: float) -> bool:
        """Takes up a value, and says whether there was none as high before."""
        if value <= self.score:
            return False
        self.score, self.update = value, update
        return True

    def lost(self, value: float) -> float:
        """The share of its gain that a value and the one before it have both lost.

        One alone may be chance, while little is gained; 0 where nothing was.
        """
        gain = self.score - self.first
        before, self.last = self.last, (self.score - value) / gain if gain > 0 else 0.0
        return min(before, self.last)


def check_watched(config: PPOConfig, environment: Environment) -> None:
    """Checks that what is to be watched is there.

    Raises:
        InputError: There are no held-out prompts, or the reward is not one of the run's.
    """
    asked = [name for name in ("watch", "max_loss") if getattr(config, name) is not None]
    if asked and not environment.held_out:
        raise InputError(f"--{asked[0]} needs held-out prompts; give --eval_prompts, or drop it")
    known = [reward.label for reward in environment.rewards]
    if config.watch is not None and config.watch not in known:
        raise InputError(f"--watch {config.watch}: not one of --rewards: {', '.join(known)}")
