"""Stage 3: train a policy with GRPO, by TRL's GRPOTrainer.

    accelerate launch recipes/grpo.py --config recipes/configs/miniature/grpo.yaml

Prompts and rewards are those of recipes/ppo.py; all flags of TRL's ``GRPOConfig`` and
``ModelConfig`` are there under their own names.
"""

from trl import GRPOConfig, ModelConfig

from icm_rl.errors import InputError, run
from icm_rl.files import open_stage
from icm_rl.models import load_config, load_tokenizer, resolve
from icm_rl.rl.grpo import train_grpo
from icm_rl.rl.models import whole_weights
from icm_rl.rl.prompts import check_lengths, load_prompts
from icm_rl.rl.rewards import RewardsConfig, check_sources, input_paths, load_rewards
from icm_rl.settings import parse, require_given
from icm_rl.trainer import trainer_settings


def main() -> None:
    training, rewards_config, model = parse([GRPOConfig, RewardsConfig, ModelConfig])
    require_given(model, "model_name_or_path")
    if training.reward_weights is not None:
        raise InputError("--reward_weights: give each weight in --rewards, as NAME=WEIGHT")
    trust, name = training.trust_remote_code, model.model_name_or_path
    prompts = load_prompts(rewards_config.prompts)
    held_out = load_prompts(rewards_config.eval_prompts)
    tokenizer = load_tokenizer(name, trust, chat=True)
    check_lengths(
        [*prompts, *held_out], tokenizer, load_config(name, trust), training.max_completion_length
    )
    with whole_weights(training.deepspeed_plugin):
        rewards = load_rewards(rewards_config, trust, training.device)
    check_sources(rewards, prompts, held_out)
    settings = trainer_settings(training, model) | rewards_config.identity()
    inputs = {"model": resolve(name), **input_paths(rewards_config, rewards)}
    with training.main_process_first(desc="opening the output folder"):
        stage = open_stage(training.output_dir, settings, inputs)
    if stage.complete:
        print(f"{training.output_dir}: complete, nothing to do")
        return
    train_grpo(training, model, tokenizer, rewards, prompts, held_out)


if __name__ == "__main__":
    run(main)
