"""A reward model's accuracy on RewardBench."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from icm_rl.progress import Progress
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rewardbench.benchmark import BenchmarkRow, section_scores, subset_means

_ROWS_AT_ONCE = 64


@dataclass
class RewardBenchConfig:
    """Scores a reward model on RewardBench."""

    reward_model: str = field(
        default="", metadata={"help": "The reward model: a directory or a Hub name."}
    )
    benchmark: str = field(
        default="allenai/reward-bench",
        metadata={"help": "RewardBench's Hub name, or a file in its columns."},
    )
    output_dir: str = field(
        default="runs/rewardbench", metadata={"help": "Folder for metrics and the rows' scores."}
    )
    batch_tokens: int = field(
        default=16_384, metadata={"help": "Padded tokens that one batch may hold."}
    )
    dtype: str = field(default="auto", metadata={"help": "The model's number type."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let the model's repository run its own code."}
    )


def evaluate_reward_model(
    scorer: RewardScorer, rows: Sequence[BenchmarkRow]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores both answers of each row; a row is right when the chosen one scores higher.

    Each process scores a part of the rows; all of them return the whole.

    Returns:
        The metrics, accuracies in percent: by subset, by section and ``score``, the mean of the
        sections; and each row's two scores.
    """
    with PartialState().split_between_processes(list(rows)) as own:
        scored = gather_object(_score(scorer, own))
    subsets = subset_means(rows, [100.0 * (s["chosen"] > s["rejected"]) for s in scored])
    sections = section_scores(subsets)
    metrics = {
        "rows": len(rows),
        "subsets": subsets,
        "sections": sections,
        "score": mean(sections.values()),
    }
    return metrics, scored


def _score(scorer: RewardScorer, rows: Sequence[BenchmarkRow]) -> list[dict[str, Any]]:
    """Each row's two scores."""
    main = PartialState().is_main_process
    progress = Progress("RewardBench", len(rows), unit="row", shown=main)
    scored = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        answers = [conversation(row.prompt, row.chosen) for row in part]
        answers += [conversation(row.prompt, row.rejected) for row in part]
        scores = scorer.score(answers)
        for row, chosen, rejected in zip(
            part, scores[: len(part)], scores[len(part) :], strict=True
        ):
            scored.append(
                {"id": row.id, "subset": row.subset, "chosen": chosen, "rejected": rejected}
            )
        progress.advance(len(part), accuracy=mean(s["chosen"] > s["rejected"] for s in scored))
    progress.close()
    return scored
