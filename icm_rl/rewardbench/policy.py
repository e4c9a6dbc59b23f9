"""A policy's answers to RewardBench's prompts, scored by a reference reward model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from icm_rl.progress import Progress
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rewardbench.benchmark import BenchmarkRow, section_scores, subset_means
from icm_rl.rl.rollout import generate, sampling_noise

Rule = Callable[[str, str], bool]
"""Whether a checkable rule accepts an answer to a prompt."""


@dataclass
class PolicyEvaluationConfig:
    """Scores a policy's answers to RewardBench's prompts against a baseline's."""

    model: str = field(default="", metadata={"help": "The policy: a directory or a Hub name."})
    baseline: str = field(
        default="miniature", metadata={"help": "The policy that it is compared with."}
    )
    reference_reward_model: str = field(
        default="", metadata={"help": "The reward model that judges both policies' answers."}
    )
    benchmark: str = field(
        default="allenai/reward-bench",
        metadata={"help": "RewardBench's Hub name, or a file in its columns."},
    )
    output_dir: str = field(
        default="runs/policy", metadata={"help": "Folder for metrics and answers."}
    )
    response_length: int = field(default=512, metadata={"help": "Most new tokens of an answer."})
    temperature: float = field(
        default=0.0, metadata={"help": "Sampling temperature; 0 takes the likeliest tokens."}
    )
    batch_size: int = field(default=32, metadata={"help": "Answers generated at once."})
    world_seed: int | None = field(
        default=None,
        metadata={"help": "Also check answers by the rules of the miniature world of this seed."},
    )
    seed: int = field(default=0, metadata={"help": "Decides sampling at a temperature above 0."})
    dtype: str = field(default="auto", metadata={"help": "The models' number type."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let a model's repository run its own code."}
    )


def answer_prompts(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    config: PolicyEvaluationConfig,
) -> list[str]:
    """The policy's answer to each prompt, batched by length.

    Each process answers a part of the prompts; all of them return the whole.
    """
    state = PartialState()
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    with state.split_between_processes(order) as own:
        progress = Progress(name, len(own), unit="answer", shown=state.is_main_process)
        texts = []
        for start in range(0, len(own), config.batch_size):
            part = own[start : start + config.batch_size]
            rollout = generate(
                model,
                tokenizer,
                [[{"role": "user", "content": prompts[index]}] for index in part],
                config.response_length,
                config.temperature,
                sampling_noise(config.seed, part, config.response_length),
            )
            texts += rollout.texts
            progress.advance(len(part))
        progress.close()
        answers = dict(zip(order, gather_object(texts), strict=True))
    return [answers[index] for index in range(len(prompts))]


def compare_policies(
    rows: Sequence[BenchmarkRow],
    before: Sequence[str],
    after: Sequence[str],
    scorer: RewardScorer,
    accepts: Rule | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Scores two policies' answers to the same prompts.

    Args:
        rows: The benchmark; its prompts are what was answered, its own answers are not used.
        before: The baseline's answers.
        after: The policy's answers.
        scorer: The reference reward model.
        accepts: A rule that tells right answers from wrong ones, where there is one.

    Returns:
        The metrics of both by section and overall (``reference_reward``, ``gold_rate`` where there
        is a rule, ``length`` in words) with the policy's ``win_rate``, a tie counting half; and the
        answers with their rewards.
    """
    prompts = [row.prompt for row in rows]
    rewards = {}
    for name, answers in (("before", before), ("after", after)):
        pairs = list(zip(prompts, answers, strict=True))
        with PartialState().split_between_processes(pairs) as own:
            rewards[name] = gather_object(scorer.score([conversation(*pair) for pair in own]))
    wins = [
        1.0 if new > old else 0.5 if new == old else 0.0
        for old, new in zip(rewards["before"], rewards["after"], strict=True)
    ]
    metrics: dict[str, Any] = {"prompts": len(rows)}
    for name, answers in (("before", before), ("after", after)):
        values = {"reference_reward": rewards[name], "length": [len(a.split()) for a in answers]}
        if accepts:
            values["gold_rate"] = [
                float(accepts(p, a)) for p, a in zip(prompts, answers, strict=True)
            ]
        metrics[name] = {key: _table(rows, numbers) for key, numbers in values.items()}
    metrics["win_rate"] = _table(rows, wins)
    answers = [
        {
            "id": row.id,
            "subset": row.subset,
            "prompt": row.prompt,
            "before": old,
            "after": new,
            "reward_before": reward_old,
            "reward_after": reward_new,
        }
        for row, old, new, reward_old, reward_new in zip(
            rows, before, after, rewards["before"], rewards["after"], strict=True
        )
    ]
    if accepts:
        for answer in answers:
            for name in ("before", "after"):
                answer[f"accepted_{name}"] = accepts(answer["prompt"], answer[name])
    return metrics, answers


def _table(rows: Sequence[BenchmarkRow], values: Sequence[float]) -> dict[str, Any]:
    """The mean over rows and, by section, with the official weights."""
    return {"mean": mean(values), "sections": section_scores(subset_means(rows, values))}
