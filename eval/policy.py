"""Score policies' answers to RewardBench's prompts by reference reward models.

    python eval/policy.py --model DIR [DIR …] --baseline DIR --reference_reward_model DIR [DIR …] \\
        --benchmark FILE --output_dir DIR

All policies answer the same prompts, those that they answered before from a folder of answers.
Reported by section and overall: the mean reward of each, and against the baseline the share of
prompts on which its answer scores higher.
"""

import time
from pathlib import Path

from evaluate import load as load_metric

from icm_rl.files import open_stage, write_json, write_jsonl
from icm_rl.generation.answers import answer_prompts
from icm_rl.miniature.world import World
from icm_rl.models import process_state
from icm_rl.reward.scorer import RewardScorer
from icm_rl.rewardbench.benchmark import load_benchmark
from icm_rl.rewardbench.policy import (
    PolicyEvaluationConfig,
    evaluate_policies,
    policies_table,
    score_answers,
)
from icm_rl.rules import load_rule
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs, parse
from icm_rl.terminal import say

METRICS = Path(__file__).parent / "metrics"


def main() -> None:
    (config,) = parse([PolicyEvaluationConfig])
    state = process_state()
    benchmark = load_benchmark(config.benchmark)
    if config.world_seed is not None:
        accepts = World(config.world_seed).accepts
    else:
        accepts = load_rule(config.rule) if config.rule else None
    scorers = {
        name: RewardScorer.load(name, config.dtype, config.batch_tokens, config.trust_remote_code)
        for name in config.reference_reward_model
    }
    with state.main_process_first():
        stage = open_stage(config.output_dir, identity(config), inputs(config))
    if already_complete(stage, state.is_main_process):
        return
    start = time.monotonic()
    prompts = [row.messages for row in benchmark.rows]
    answers = {name: answer_prompts(name, prompts, config) for name in config.policies}
    rewards = {
        name: score_answers(name, scorer, benchmark, answers) for name, scorer in scorers.items()
    }
    if not state.is_main_process:
        return
    win_rate = load_metric(str(METRICS / "win_rate"), keep_in_memory=True).compute
    metrics, rows = evaluate_policies(config, benchmark, answers, rewards, win_rate, accepts)
    metrics["seconds"] = round(time.monotonic() - start, 2)
    write_jsonl(stage.folder / "answers.jsonl", rows)
    write_json(stage.metrics, metrics)
    say(policies_table(metrics))


if __name__ == "__main__":
    run(main)
