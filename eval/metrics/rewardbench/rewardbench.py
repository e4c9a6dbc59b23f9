"""RewardBench's score as a metric of the library evaluate."""

import datasets
import evaluate

from icm_rl.rewardbench.benchmark import BenchmarkRow, benchmark_of_rows
from icm_rl.rewardbench.scoring import RowScore, accuracies, credit, score_parts

_DESCRIPTION = """
RewardBench (Lambert et al. 2024) and RewardBench 2 (Malik et al. 2025): how often a reward model
scores a chosen answer above the rejected ones, by subset, by section and overall, with 95 %
bootstrap intervals.
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions: For each row the scores of its answers, ``{"chosen": [...], "rejected": [...]}``;
        or a number, how right the row is, from 0 to 1.
    references: For each row its ``{"id": ..., "subset": ...}``, by RewardBench's names.
    best_of: Whether the rows are RewardBench 2's, each of several answers.
    prior_sets: Whether the prior test sets are a section of their own.
Returns:
    ``subsets`` and ``sections``, accuracies in percent by name, the ``score``, which is the mean of
    the sections, and under ``intervals`` the 95 % intervals of all three.
Examples:
    >>> metric = evaluate.load("eval/metrics/rewardbench")
    >>> found = metric.compute(
    ...     predictions=[{"chosen": [2.0], "rejected": [1]}, {"chosen": [0], "rejected": [1]}],
    ...     references=[{"id": "0", "subset": "hep-cpp"}, {"id": "1", "subset": "hep-java"}],
    ... )
    >>> found["score"]
    50.0
"""
_CITATION = """
@misc{lambert2024rewardbench,
  title={RewardBench: Evaluating Reward Models for Language Modeling},
  author={Nathan Lambert and others},
  year={2024},
  eprint={2403.13787},
  archivePrefix={arXiv}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class RewardBench(evaluate.Metric):
    def _info(self):
        text, number = datasets.Value("string"), datasets.Value("float64")
        reference = {"id": text, "subset": text}
        scores = {"chosen": datasets.List(number), "rejected": datasets.List(number)}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=[
                datasets.Features({"predictions": scores, "references": reference}),
                datasets.Features({"predictions": number, "references": reference}),
            ],
            reference_urls=["https://github.com/allenai/reward-bench"],
        )

    def _compute(self, predictions, references, best_of=False, prior_sets=False):

        rows = [BenchmarkRow(r["id"], r["subset"], "", (), ()) for r in references]
        scores = [
            RowScore(p["chosen"], p["rejected"], credit(p["chosen"], p["rejected"], best_of))
            if isinstance(p, dict)
            else RowScore([], [], p)
            for p in predictions
        ]
        benchmark = benchmark_of_rows(rows, best_of, prior_sets)
        return accuracies(benchmark, score_parts(benchmark, scores))
