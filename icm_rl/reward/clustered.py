"""A reward model on a Ray cluster."""

from collections.abc import Sequence
from typing import Any

from icm_rl.cluster import Copies, joined
from icm_rl.reward.scorer import RewardScorer
from icm_rl.tasks.base import Messages


class ClusterScorer:
    """Scores as a ``RewardScorer`` does, by so many of them, an actor each.

    Args:
        count: How many.
        *loaded_by: What ``RewardScorer.load`` is given.
    """

    def __init__(self, count: int, *loaded_by: Any):
        self._copies = Copies(count, RewardScorer.load, *loaded_by)

    def score_groups(self, groups: Sequence[Sequence[Messages]]) -> list[list[float]]:
        """The rewards of each group's conversations."""
        return joined(self._copies.share("score_groups", groups))
