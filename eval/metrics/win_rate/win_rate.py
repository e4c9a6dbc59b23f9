"""The win rate of answers by their rewards, as a metric of the library evaluate."""

import datasets
import evaluate

from icm_rl.rewardbench.policy import length_controlled, wins

_DESCRIPTION = """
How often a reward model prefers a policy's answer to a baseline's answer to the same prompt, a tie
counting half; and the same were each answer as long as the baseline's (Dubois et al. 2024).
"""
_KWARGS_DESCRIPTION = """
Args:
    predictions: For each prompt the reward of the policy's answer.
    references: For each prompt the reward of the baseline's answer.
    prediction_lengths: The lengths of the policy's answers, in words, if the length-controlled win
        rate is wanted too.
    reference_lengths: The lengths of the baseline's.
Returns:
    ``win_rate``, from 0 to 1, what each prompt adds to it as ``wins``, and where lengths are given
    ``length_controlled_win_rate``.
Examples:
    >>> metric = evaluate.load("eval/metrics/win_rate")
    >>> metric.compute(predictions=[1.0, 2.0], references=[1.0, 0.0])
    {'win_rate': 0.75, 'wins': [0.5, 1.0]}
"""
_CITATION = """
@misc{dubois2024length,
  title={Length-Controlled AlpacaEval: A Simple Way to Debias Automatic Evaluators},
  author={Yann Dubois and others},
  year={2024},
  eprint={2404.04475},
  archivePrefix={arXiv}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class WinRate(evaluate.Metric):
    def _info(self):
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references, prediction_lengths=None, reference_lengths=None):
        won = wins(predictions, references)
        found = {"win_rate": sum(won) / len(won), "wins": won}
        if prediction_lengths is not None:
            found["length_controlled_win_rate"] = length_controlled(
                won, prediction_lengths, reference_lengths
            )
        return found
