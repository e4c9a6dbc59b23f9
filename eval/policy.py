"""Score a policy's answers to RewardBench's prompts by a reference reward model.

    accelerate launch eval/policy.py --model DIR --baseline DIR --reference_reward_model DIR \\
        --benchmark FILE --output_dir DIR

Both policies answer the same prompts. Reported by section and overall: the mean reward of each and
the share of prompts on which the policy's answer scores higher than the baseline's.
"""

import time

from icm_rl.errors import run
from icm_rl.files import open_stage, write_json, write_jsonl
from icm_rl.miniature.world import World
from icm_rl.models import (
    default_device,
    load_causal_lm,
    load_tokenizer,
    process_state,
    resolve,
)
from icm_rl.reward.scorer import RewardScorer
from icm_rl.rewardbench.benchmark import load_benchmark
from icm_rl.rewardbench.policy import PolicyEvaluationConfig, answer_prompts, compare_policies
from icm_rl.settings import parse


def main() -> None:
    (config,) = parse([PolicyEvaluationConfig])
    state = process_state()
    rows = load_benchmark(config.benchmark)
    accepts = None if config.world_seed is None else World(config.world_seed).accepts
    scorer = RewardScorer.load(
        config.reference_reward_model, config.dtype, trust_remote_code=config.trust_remote_code
    )
    names = ("model", "baseline", "reference_reward_model", "benchmark")
    inputs = {name: resolve(getattr(config, name)) for name in names}
    settings = {
        name: getattr(config, name)
        for name in ("response_length", "temperature", "batch_size", "world_seed", "seed", "dtype")
    }
    with state.main_process_first():
        stage = open_stage(config.output_dir, settings, inputs)
    if stage.complete:
        state.print(f"{config.output_dir}: complete, nothing to do")
        return
    start = time.monotonic()
    answers = {}
    for role, name in (("before", config.baseline), ("after", config.model)):
        tokenizer = load_tokenizer(name, config.trust_remote_code, chat=True)
        model = load_causal_lm(name, config.dtype, config.trust_remote_code).to(default_device())
        prompts = [row.prompt for row in rows]
        answers[role] = answer_prompts(f"answers {role}", model, tokenizer, prompts, config)
    metrics, table = compare_policies(rows, answers["before"], answers["after"], scorer, accepts)
    if not state.is_main_process:
        return
    metrics["seconds"] = round(time.monotonic() - start, 2)
    write_jsonl(stage.folder / "answers.jsonl", table)
    write_json(stage.metrics, metrics)
    for role in ("before", "after"):
        for name, value in metrics[role].items():
            print(f"{role:>8} {name:>18}  {value['mean']:8.4f}")
    print(f"{'win_rate':>27}  {metrics['win_rate']['mean']:8.4f}")


if __name__ == "__main__":
    run(main)
