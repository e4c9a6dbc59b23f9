"""Stage 3: train a policy with PPO.

    accelerate launch recipes/ppo.py --config recipes/configs/miniature/ppo.yaml

Policy and reward models each keep their own tokenizer and chat template: answers travel as text.
TRL's flags for a model, LoRA and quantisation are there under their own names.
"""

from accelerate.utils import set_seed
from trl import ModelConfig

from icm_rl.cards import write_policy_card
from icm_rl.errors import run
from icm_rl.files import open_stage, write_json
from icm_rl.models import load_config, load_tokenizer, resolve
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.models import load_policy, load_value_model, make_accelerator, whole_weights
from icm_rl.rl.ppo import PPO
from icm_rl.rl.prompts import check_lengths, load_prompts
from icm_rl.rl.rewards import RewardsConfig, check_sources, input_paths, load_rewards
from icm_rl.settings import changed, parse, require_given


def main() -> None:
    config, rewards_config, model = parse([PPOConfig, RewardsConfig, ModelConfig])
    require_given(model, "model_name_or_path")
    trust, name = config.trust_remote_code, model.model_name_or_path
    accelerator = make_accelerator(config)
    prompts = load_prompts(rewards_config.prompts)
    held_out = load_prompts(rewards_config.eval_prompts)
    tokenizer = load_tokenizer(name, trust, chat=True)
    check_lengths(
        [*prompts, *held_out], tokenizer, load_config(name, trust), config.response_length
    )
    with whole_weights(getattr(accelerator.state, "deepspeed_plugin", None)):
        rewards = load_rewards(rewards_config, trust, accelerator.device)
    check_sources(rewards, prompts, held_out)
    set_seed(config.seed)  # of fresh adapters
    policy = load_policy(model, trust)
    reference = None if model.use_peft else load_policy(model, trust)
    value = None
    if config.value_model != "head":
        value_name = name if config.value_model == "policy" else config.value_model
        value = load_value_model(value_name, model, tokenizer, trust)
    inputs = {"model": resolve(name), "value_model": resolve(config.value_model)}
    inputs |= input_paths(rewards_config, rewards)
    settings = config.identity() | changed(model, ModelConfig(), {"model_name_or_path"})
    settings |= rewards_config.identity() | {"processes": accelerator.num_processes}
    with accelerator.main_process_first():
        stage = open_stage(config.output_dir, settings, inputs)
    if stage.complete:
        accelerator.print(f"{config.output_dir}: complete, nothing to do")
        return
    trainer = PPO(
        config, accelerator, policy, reference, value, tokenizer, rewards, prompts, held_out
    )
    named = {name: {"name": config.run_name} for name in ("wandb", "trackio") if config.run_name}
    plain = {name: str(value) for name, value in settings.items()}
    accelerator.init_trackers("icm_rl", plain, named)
    record = trainer.train()
    if accelerator.is_main_process:
        numbers = {name: value for name, value in record.items() if "/" in name}
        best = {"best": trainer.best} if trainer.best else {}
        metrics = {"seconds": round(trainer.seconds, 2), **best, **numbers}
        write_policy_card(stage.folder, "PPO", name, metrics)
        write_json(stage.metrics, metrics)
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
