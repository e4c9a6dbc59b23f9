"""Stage 3: train a policy with GRPO, by TRL's GRPOTrainer.

    accelerate launch recipes/grpo.py --config recipes/configs/miniature/grpo.yaml

Prompts and rewards are those of recipes/ppo.py; all flags of TRL's ``GRPOConfig`` and
``ModelConfig`` are there under their own names.
"""

from trl import GRPOConfig

from icm_rl.errors import InputError
from icm_rl.files import open_stage
from icm_rl.rl.environment import load_environment
from icm_rl.rl.grpo import train_grpo
from icm_rl.rl.rewards import RewardsConfig
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs
from icm_rl.trainer import parse_with_trainer


def main() -> None:
    rewards_config, training, model = parse_with_trainer(RewardsConfig, GRPOConfig)
    if training.reward_weights is not None:
        raise InputError("--reward_weights: give each weight in --rewards, as NAME=WEIGHT")
    environment = load_environment(
        model,
        rewards_config,
        trust_remote_code=training.trust_remote_code,
        answer_length=training.max_completion_length,
        device=training.device,
        deepspeed=training.deepspeed_plugin,
    )
    with training.main_process_first(desc="opening the output folder"):
        stage = open_stage(
            training.output_dir,
            identity(rewards_config, training, model),
            inputs(model) | environment.inputs,
        )
    if already_complete(stage, training.process_index == 0):
        return
    train_grpo(training, model, environment)


if __name__ == "__main__":
    run(main)
