"""Score what prefers answers on RewardBench 1 or 2: by subset, by section and overall.

    python eval/rewardbench.py --reward_model DIR --benchmark FILE --output_dir DIR
    python eval/rewardbench.py --policy DIR --reference DIR …           # a DPO policy's reward
    python eval/rewardbench.py --judge NAME …                           # a model that is asked

Section scores weight their subsets by the official counts; the score is the mean of the sections.
A run that was killed is continued by the same command; a complete one prints its table again.
"""

import time
from pathlib import Path

from evaluate import load as load_metric

from icm_rl.files import open_stage, read_json, write_json
from icm_rl.models import process_state
from icm_rl.rewardbench.export import write_rewardbench_files
from icm_rl.rewardbench.reward_model import (
    RewardBenchConfig,
    benchmark_of,
    evaluate,
    load_preference,
    read_scores,
    results_table,
    score_benchmark,
    write_scores,
)
from icm_rl.runner import run
from icm_rl.settings import identity, inputs, parse
from icm_rl.terminal import say

METRICS = Path(__file__).parent / "metrics"


def main() -> None:
    (config,) = parse([RewardBenchConfig])
    state = process_state()
    benchmark = benchmark_of(config)
    baseline = read_scores(config.baseline, benchmark) if config.baseline else None
    scored = (Path(config.output_dir) / "scores.parquet").exists()
    preference = None if scored else load_preference(config, benchmark)
    with state.main_process_first():
        stage = open_stage(config.output_dir, identity(config), inputs(config))
    if scored:
        scores = read_scores(stage.folder, benchmark)
        times = read_json(stage.metrics)["time"] if stage.complete else {}
    else:
        start = time.monotonic()
        scores = score_benchmark(preference, benchmark, stage.folder)
        seconds = time.monotonic() - start
        times = {"seconds": seconds, "rows_per_second": len(scores) / seconds}
    if not state.is_main_process:
        return
    metric = load_metric(str(METRICS / "rewardbench"), keep_in_memory=True)
    metrics = evaluate(benchmark, scores, metric.compute, bool(config.judge), baseline)
    if not scored:
        write_rewardbench_files(config, preference, benchmark, scores, metrics["subsets"])
        write_scores(stage.folder, benchmark, scores)
    write_json(stage.metrics, {**metrics, "time": times})
    for path in stage.folder.glob("partial-*.jsonl"):
        path.unlink()
    say(results_table(metrics))


if __name__ == "__main__":
    run(main)
