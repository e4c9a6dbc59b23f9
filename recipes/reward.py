"""Stage 2: train a reward model on preferences with TRL's RewardTrainer, full or LoRA.

    accelerate launch recipes/reward.py --config recipes/configs/miniature/reward.yaml

All flags of TRL's ``RewardConfig`` and ``ModelConfig`` are there under their own names. A base
model reads an answer best in words that it knows: ``--chat_template_path`` puts them around it.
"""

from dataclasses import asdict
from pathlib import Path

from trl import ModelConfig, RewardConfig

from icm_rl.errors import InputError, run
from icm_rl.files import open_stage
from icm_rl.models import load_tokenizer, resolve
from icm_rl.reward.training import (
    RewardArguments,
    load_preferences,
    train_reward_model,
)
from icm_rl.settings import parse, require_given
from icm_rl.trainer import trainer_settings


def main() -> None:
    arguments, training, model = parse([RewardArguments, RewardConfig, ModelConfig])
    require_given(model, "model_name_or_path")
    preferences = load_preferences(arguments)
    template = training.chat_template_path
    if template and template.endswith((".jinja", ".j2")) and not Path(template).is_file():
        raise InputError(f"{template}: no such chat template; correct --chat_template_path")
    name = model.model_name_or_path
    tokenizer = load_tokenizer(name, training.trust_remote_code, chat=template is None)
    inputs = {"preferences": arguments.preferences, "model": resolve(name)}
    if template:
        inputs["chat_template"] = template
    chosen = {name: value for name, value in asdict(arguments).items() if name != "preferences"}
    settings = chosen | trainer_settings(training, model)
    with training.main_process_first(desc="opening the output folder"):
        stage = open_stage(training.output_dir, settings, inputs)
    if stage.complete:
        print(f"{training.output_dir}: complete, nothing to do")
        return
    train_reward_model(preferences, tokenizer, arguments, training, model)


if __name__ == "__main__":
    run(main)
