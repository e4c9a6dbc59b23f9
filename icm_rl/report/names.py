"""How figures of a report are called wherever they are shown."""

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
