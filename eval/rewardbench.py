"""Score a reward model on RewardBench: accuracy by subset, by section and overall.

    accelerate launch eval/rewardbench.py --reward_model DIR --benchmark FILE --output_dir DIR

A row is right when the chosen answer scores higher than the rejected one. Section scores weight
their subsets by the official counts; the score is the mean of the sections.
"""

import time

from icm_rl.errors import run
from icm_rl.files import open_stage, write_json, write_jsonl
from icm_rl.models import process_state
from icm_rl.reward.scorer import RewardScorer
from icm_rl.rewardbench.benchmark import load_benchmark
from icm_rl.rewardbench.reward_model import RewardBenchConfig, evaluate_reward_model
from icm_rl.settings import parse


def main() -> None:
    (config,) = parse([RewardBenchConfig])
    state = process_state()
    rows = load_benchmark(config.benchmark)
    inputs = {"reward_model": config.reward_model, "benchmark": config.benchmark}
    scorer = RewardScorer.load(
        config.reward_model, config.dtype, config.batch_tokens, config.trust_remote_code
    )
    with state.main_process_first():
        stage = open_stage(config.output_dir, {"dtype": config.dtype}, inputs)
    if stage.complete:
        state.print(f"{config.output_dir}: complete, nothing to do")
        return
    start = time.monotonic()
    metrics, scored = evaluate_reward_model(scorer, rows)
    if not state.is_main_process:
        return
    metrics["seconds"] = round(time.monotonic() - start, 2)
    write_jsonl(stage.folder / "scores.jsonl", scored)
    write_json(stage.metrics, metrics)
    for name, value in {
        **metrics["subsets"],
        **metrics["sections"],
        "score": metrics["score"],
    }.items():
        print(f"{name:>22}  {value:6.2f}")


if __name__ == "__main__":
    run(main)
