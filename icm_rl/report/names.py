"""How figures of a report are called wherever they are shown."""

from collections.abc import Mapping

LABEL_FIGURES = {
    "zero_shot_accuracy": "zero-shot prompting",
    "consistent_zero_shot_accuracy": "zero-shot, made consistent",
    "random_many_shot_accuracy": "many-shot, random labels",
    "human_label_accuracy": "human labels",
    "human_many_shot_accuracy": "many-shot, human labels",
    "golden_many_shot_accuracy": "many-shot, gold labels",
    "icm_many_shot_accuracy": "many-shot, ICM labels",
    "label_accuracy": "ICM labels",
}
"""Keys of ``report.json`` under ``icm``, shares of examples labeled right."""

SIGNALS = {
    "agreement": "labels that it gives back after the others",
    "shuffled_agreement": "labels that it gives after these were dealt out at random",
    "reversed_agreement": "labels that it gives after their opposites",
    "zero_shot_agreement": "labels that it gives without demonstrations",
    "stability": "answers that two such deals have in common",
    "largest_share": "examples with the most frequent label",
    "coherence": "log-odds of the labels after each other, nats",
    "shuffled_coherence": "the same of labels dealt out at random",
    "excess": "how many standard deviations of these it is above them",
    "reversed_coherence": "log-odds of the opposite labels after each other",
    "confidence": "mean confidence less the first share",
}
"""Keys of ``report.json`` under ``icm.signals``; the first six are shares of examples."""


def signal_rows(found: Mapping[str, float]) -> dict[str, str]:
    """Signals by what they are called, as they are shown."""
    shares = ("agreement", "stability", "share")
    return {
        words: f"{100 * found[name]:.1f} %" if name.endswith(shares) else f"{found[name]:.3f}"
        for name, words in SIGNALS.items()
    }
