"""Stage 2: train a reward model on preferences with TRL's RewardTrainer, full or LoRA.

    accelerate launch recipes/reward.py --config recipes/configs/miniature/reward.yaml

All flags of TRL's ``RewardConfig`` and ``ModelConfig`` are there under their own names.
"""

from trl import ModelConfig, RewardConfig

from icm_rl.errors import run
from icm_rl.files import open_stage
from icm_rl.models import load_tokenizer, resolve
from icm_rl.reward.training import (
    RewardArguments,
    load_preferences,
    stage_settings,
    train_reward_model,
)
from icm_rl.settings import parse


def main() -> None:
    arguments, training, model = parse([RewardArguments, RewardConfig, ModelConfig])
    preferences = load_preferences(arguments.preferences)
    tokenizer = load_tokenizer(model.model_name_or_path, training.trust_remote_code, chat=True)
    inputs = {"preferences": arguments.preferences, "model": resolve(model.model_name_or_path)}
    with training.main_process_first(desc="opening the output folder"):
        stage = open_stage(training.output_dir, stage_settings(arguments, training, model), inputs)
    if stage.complete:
        print(f"{training.output_dir}: complete, nothing to do")
        return
    train_reward_model(preferences, tokenizer, arguments, training, model)


if __name__ == "__main__":
    run(main)
