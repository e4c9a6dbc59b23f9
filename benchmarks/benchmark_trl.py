"""One side of benchmark_rl.py: the experimental PPO of TRL 1.12.0, or a bare GRPOTrainer.

    .venv-trl/bin/python benchmarks/benchmark_trl.py SETTINGS.json

It imports nothing of icm_rl: TRL's last PPO needs an environment of its own (make .venv-trl/ready).
The settings are written by benchmarks/benchmark_rl.py; the result is one JSON file.
"""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)


class Curve(TrainerCallback):
    """Notes what is logged."""

    def __init__(self):
        self.records = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.records.append(logs or {})


def ppo(settings: dict, tokenizer, curve: Curve):
    """TRL 1.12.0's PPO, with a copy of the policy as its value model's trunk."""
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    def classifier(name: str):
        return AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=1, dtype="float32"
        )

    tokenizer.padding_side = "left"
    rows = [
        tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        for prompt in settings["prompts"]
    ]
    value = classifier(settings["model"])
    torch.nn.init.zeros_(value.score.weight)
    return PPOTrainer(
        args=PPOConfig(**settings["arguments"], stop_token="eos", num_sample_generations=0),
        processing_class=tokenizer,
        model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype="float32"),
        ref_model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype="float32"),
        reward_model=classifier(settings["reward_model"]),
        value_model=value,
        train_dataset=Dataset.from_dict({"input_ids": rows}),
        eval_dataset=Dataset.from_dict({"input_ids": rows[:1]}),
        callbacks=[curve],
    )


def grpo(settings: dict, tokenizer, curve: Curve):
    """TRL's GRPO, which scores by the reward model itself."""
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=settings["model"],
        reward_funcs=settings["reward_model"],
        args=GRPOConfig(**settings["arguments"]),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in settings["prompts"]]),
        processing_class=tokenizer,
        callbacks=[curve],
    )


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    curve = Curve()
    trainer = {"ppo": ppo, "grpo": grpo}[settings["algorithm"]](settings, tokenizer, curve)
    start = time.monotonic()
    trainer.train()
    result = {"seconds": time.monotonic() - start, "history": curve.records}
    Path(settings["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
