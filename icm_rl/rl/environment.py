"""What a policy is trained in, by PPO and GRPO alike: prompts, rewards, and its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from accelerate.utils import DeepSpeedPlugin
from transformers import PreTrainedTokenizerBase
from trl import ModelConfig

from icm_rl.models import load_config, load_tokenizer
from icm_rl.rl.models import whole_weights
from icm_rl.rl.prompts import Prompt, check_lengths, load_prompts
from icm_rl.rl.rewards import Reward, RewardsConfig, check_sources, input_paths, load_rewards
from icm_rl.settings import require_given


@dataclass(frozen=True)
class Environment:
    """What a policy answers, and what rewards its answers.

    Attributes:
        tokenizer: The policy's tokenizer, with a chat template.
        rewards: The terms of the reward.
        prompts: What the policy answers.
        held_out: Prompts on which it is evaluated.
        inputs: The files and model directories that prompts and rewards are read from, by name.
    """

    tokenizer: PreTrainedTokenizerBase
    rewards: Sequence[Reward]
    prompts: Sequence[Prompt]
    held_out: Sequence[Prompt] = ()
    inputs: dict[str, str] = field(default_factory=dict)


def load_environment(
    model: ModelConfig,
    config: RewardsConfig,
    *,
    trust_remote_code: bool,
    answer_length: int,
    device: torch.device,
    deepspeed: DeepSpeedPlugin | None,
) -> Environment:
    """Reads the prompts and loads the rewards and the policy's tokenizer.

    Args:
        model: TRL's settings of the policy.
        config: What it answers, and what rewards its answers.
        trust_remote_code: Whether models may run their own code.
        answer_length: The most tokens of an answer.
        device: Where the reward models are.
        deepspeed: Where DeepSpeed shards the policy, its plugin: reward models are whole.

    Raises:
        InputError: Something is missing, bad, too long for the policy, or rewards nothing.
    """
    require_given(model, "model_name_or_path")
    name = model.model_name_or_path
    prompts, held_out = load_prompts(config.prompts), load_prompts(config.eval_prompts)
    tokenizer = load_tokenizer(name, trust_remote_code, chat=True)
    settings = load_config(name, trust_remote_code)
    check_lengths([*prompts, *held_out], tokenizer, settings, answer_length)
    with whole_weights(deepspeed):
        rewards = load_rewards(config, trust_remote_code, device)
    check_sources(rewards, prompts, held_out)
    return Environment(tokenizer, rewards, prompts, held_out, input_paths(config, rewards))
