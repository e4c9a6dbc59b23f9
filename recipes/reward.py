"""Stage 2: train a reward model on preferences with TRL's RewardTrainer, full or LoRA.

    accelerate launch recipes/reward.py --config recipes/configs/miniature/reward.yaml

All flags of TRL's ``RewardConfig`` and ``ModelConfig`` are there under their own names. A base
model reads an answer best in words that it knows: ``--chat_template_path`` puts them around it.
"""

from trl import RewardConfig

from icm_rl.files import open_stage
from icm_rl.models import load_tokenizer
from icm_rl.reward.training import (
    RewardArguments,
    load_preferences,
    template_of,
    train_reward_model,
)
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs, require_given
from icm_rl.trainer import parse_with_trainer


def main() -> None:
    arguments, training, model = parse_with_trainer(RewardArguments, RewardConfig)
    require_given(model, "model_name_or_path")
    preferences = load_preferences(arguments)
    settings, template = identity(arguments, training, model), template_of(training)
    tokenizer = load_tokenizer(
        model.model_name_or_path, training.trust_remote_code, chat=template is None
    )
    read = inputs(arguments, model) | ({"chat_template": template} if template else {})
    with training.main_process_first(desc="opening the output folder"):
        stage = open_stage(training.output_dir, settings, read)
    if already_complete(stage, training.process_index == 0):
        return
    train_reward_model(preferences, tokenizer, arguments, training, model)


if __name__ == "__main__":
    run(main)
