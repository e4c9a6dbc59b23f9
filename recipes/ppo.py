"""Stage 3: train a policy with PPO.

    accelerate launch recipes/ppo.py --config recipes/configs/miniature/ppo.yaml

Policy and reward models each keep their own tokenizer and chat template: answers travel as text.
TRL's flags for a model, LoRA and quantisation are there under their own names.
"""

from accelerate.utils import set_seed
from trl import ModelConfig

from icm_rl.cards import write_policy_card
from icm_rl.files import open_stage, write_json
from icm_rl.models import resolve
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.environment import load_environment
from icm_rl.rl.models import load_policy, load_value_model, make_accelerator
from icm_rl.rl.ppo import PPO
from icm_rl.rl.rewards import RewardsConfig
from icm_rl.rl.watching import check_watched
from icm_rl.runner import already_complete, run
from icm_rl.settings import identity, inputs, parse
from icm_rl.trainer import end_training


def main() -> None:
    config, rewards_config, model = parse([PPOConfig, RewardsConfig, ModelConfig])
    accelerator = make_accelerator(config)
    environment = load_environment(
        model,
        rewards_config,
        trust_remote_code=config.trust_remote_code,
        answer_length=config.response_length,
        device=accelerator.device,
        deepspeed=getattr(accelerator.state, "deepspeed_plugin", None),
    )
    check_watched(config, environment)
    trust, name = config.trust_remote_code, model.model_name_or_path
    set_seed(config.seed)  # of fresh adapters
    policy = load_policy(model, trust)
    reference = None if model.use_peft else load_policy(model, trust)
    value = None
    if config.value_model != "head":
        value_name = name if config.value_model == "policy" else config.value_model
        value = load_value_model(value_name, model, environment.tokenizer, trust)
    settings = identity(config, rewards_config, model)
    settings |= {"processes": accelerator.num_processes}
    read = inputs(model) | environment.inputs | {"value_model": resolve(config.value_model)}
    with accelerator.main_process_first():
        stage = open_stage(config.output_dir, settings, read)
    if already_complete(stage, accelerator.is_main_process):
        return
    trainer = PPO(config, accelerator, policy, reference, value, environment)
    named = {name: {"name": config.run_name} for name in ("wandb", "trackio") if config.run_name}
    plain = {name: str(value) for name, value in settings.items()}
    accelerator.init_trackers("icm_rl", plain, named)
    record = trainer.train()
    if accelerator.is_main_process:
        numbers = {name: value for name, value in record.items() if "/" in name}
        names = ("update", "score", "first")
        best = {"best": {n: getattr(trainer.watched, n) for n in names}} if trainer.watched else {}
        metrics = {"seconds": round(trainer.seconds, 2), **best, **numbers}
        write_policy_card(stage.folder, "PPO", name, metrics)
        write_json(stage.metrics, metrics)
    end_training(accelerator, trainer)


if __name__ == "__main__":
    run(main)
