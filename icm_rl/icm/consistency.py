"""ConsistencyFix (Algorithm 2 of the paper)."""

import random
from itertools import product

from icm_rl.icm.objective import Arrangement, Labels, Score, Scorer
from icm_rl.tasks import Label


def consistency_fix(
    scorer: Scorer,
    labels: Labels,
    arrangement: Arrangement,
    rng: random.Random,
    max_rounds: int = 10,
) -> tuple[dict[str, Label], Score]:
    """Resolves inconsistent pairs one after the other by the consistent option of highest U.

    Each round samples one inconsistent pair, scores the labeled set under every consistent pair of
    labels for it, and keeps the best where it does not lower U. A pair for which every option
    lowers U, or for which there is none, is not tried again until other labels change.

    Args:
        scorer: Scores labeled sets.
        labels: The labels to be fixed; not changed.
        arrangement: The order of their examples in each other's contexts.
        rng: Samples the pair.
        max_rounds: M of Algorithm 2.

    Returns:
        The fixed labels and their score.
    """
    fixed, refused = dict(labels), set()
    for _ in range(max_rounds):
        pairs = [pair for pair in scorer.inconsistent_pairs(fixed) if pair not in refused]
        if not pairs:
            break
        a, b = rng.choice(pairs)
        options = [
            {**fixed, a.id: label_a, b.id: label_b}
            for label_a, label_b in product(scorer.task.labels, repeat=2)
            if scorer.task.consistent(a, label_a, b, label_b)
        ]
        *scores, current = scorer.scores([*options, fixed], arrangement)
        best = max(range(len(options)), key=lambda k: scores[k].utility, default=None)
        if best is not None and scores[best].utility >= current.utility:
            fixed, refused = options[best], set()
        else:
            refused.add((a, b))
    return fixed, scorer.score(fixed, arrangement)
