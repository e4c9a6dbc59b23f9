"""Results in the files that RewardBench's own tools read.

Its scripts ``run_rm.py`` and ``run_v2.py`` write them, and its ``analysis`` reads them: accuracies
as ``eval-set/ORG/MODEL.json``, scores as ``eval-set-scores/ORG/MODEL.json``; the prior test sets
stand beside them under ``pref-sets``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_rl.files import write_json
from icm_rl.rewardbench.benchmark import SECTIONS, TIES, Benchmark, BenchmarkRow
from icm_rl.rewardbench.reward_model import Preference, Render, RewardBenchConfig
from icm_rl.rewardbench.scoring import RowScore

_FIRST_SUBSETS = {subset for subsets in SECTIONS.values() for subset in subsets}


def write_rewardbench_files(
    config: RewardBenchConfig,
    preference: Preference,
    benchmark: Benchmark,
    scores: Sequence[RowScore],
    subsets: Mapping[str, float],
) -> None:
    """Writes a model's results into its output folder.

    The model is called by the last two parts of its path or name, by ``local/WORD`` where it has
    only one.

    Args:
        config: What was scored.
        preference: The model.
        benchmark: The rows.
        scores: The model's.
        subsets: Its accuracies, in percent.
    """
    parts, folder = Path(config.name).parts[-2:], Path(config.output_dir)
    name = "/".join(parts if len(parts) > 1 else ("local", *parts))
    head = {"model": name, "model_type": config.kind, "chat_template": "tokenizer"}
    prior = [] if benchmark.best_of else [s for s in benchmark.subsets if s not in _FIRST_SUBSETS]
    for target, own in (
        ("eval-set", [subset for subset in benchmark.subsets if subset not in prior]),
        ("pref-sets", prior),
    ):
        if own:
            values = {subset: subsets[subset] / 100 for subset in own}
            write_json(folder / target / f"{name}.json", head | values)
        if own and preference.render:
            rows = [
                (benchmark.rows[index], scores[index])
                for subset in own
                for index in benchmark.subsets[subset]
            ]
            columns = _best_of if benchmark.best_of else _pairs
            table = columns(rows, preference.render)
            write_json(folder / f"{target}-scores" / f"{name}.json", table | head)


def _pairs(rows: Sequence[tuple[BenchmarkRow, RowScore]], render: Render) -> dict[str, Any]:
    return {
        "id": [row.id for row, _ in rows],
        "subset": [row.subset for row, _ in rows],
        "text_chosen": [render(row, row.chosen[0]) for row, _ in rows],
        "text_rejected": [render(row, row.rejected[0]) for row, _ in rows],
        "results": [int(score.credit) for _, score in rows],
        "scores_chosen": [score.chosen[0] for _, score in rows],
        "scores_rejected": [score.rejected[0] for _, score in rows],
    }


def _best_of(rows: Sequence[tuple[BenchmarkRow, RowScore]], render: Render) -> dict[str, Any]:
    return {
        "id": [row.id for row, _ in rows],
        "subset": [row.subset for row, _ in rows],
        "num_correct": [len(row.chosen) for row, _ in rows],
        "text": [[render(row, a) for a in (*row.chosen, *row.rejected)] for row, _ in rows],
        "scores": [[*score.chosen, *score.rejected] for _, score in rows],
        "results": [None if row.subset == TIES else score.credit for row, score in rows],
    }
