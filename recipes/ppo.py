"""Stage 3: train a policy against a reward model with PPO.

    accelerate launch recipes/ppo.py --config recipes/configs/miniature/ppo.yaml

Policy and reward model each keep their own tokenizer and chat template: answers travel as text.
"""

import copy

from accelerate import Accelerator

from icm_rl.errors import run
from icm_rl.files import open_stage, write_json
from icm_rl.models import load_causal_lm, load_tokenizer, resolve
from icm_rl.reward.scorer import RewardScorer
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.ppo import PPO, load_value_model
from icm_rl.rl.prompts import load_prompts
from icm_rl.settings import parse


def main() -> None:
    (config,) = parse([PPOConfig])
    accelerator = Accelerator()
    prompts = load_prompts(config.prompts)
    tokenizer = load_tokenizer(config.model, config.trust_remote_code, chat=True)
    policy = load_causal_lm(config.model, "float32", config.trust_remote_code)
    value = load_value_model(config.value_model or config.model, policy, config.trust_remote_code)
    scorer = RewardScorer(
        config.reward_model,
        config.dtype,
        trust_remote_code=config.trust_remote_code,
        device=accelerator.device,
    )
    names = ("prompts", "model", "reward_model")
    inputs = {name: resolve(getattr(config, name)) for name in names}
    with accelerator.main_process_first():
        stage = open_stage(config.output_dir, config.identity(), inputs)
    if stage.complete:
        accelerator.print(f"{config.output_dir}: complete, nothing to do")
        return
    trainer = PPO(
        config, accelerator, policy, copy.deepcopy(policy), value, tokenizer, scorer, prompts
    )
    history = trainer.train()
    if accelerator.is_main_process:
        last = {name: value for name, value in history[-1].items() if "/" in name}
        write_json(stage.metrics, {"seconds": round(trainer.seconds, 2), **last})
    accelerator.end_training()


if __name__ == "__main__":
    run(main)
