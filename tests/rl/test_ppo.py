"""One update of PPO against the same written out answer by answer, without batches or padding."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM

from icm_rl.models import attends_only
from icm_rl.rl.config import PPOConfig
from icm_rl.rl.environment import Environment
from icm_rl.rl.models import load_value_model
from icm_rl.rl.ppo import PPO
from icm_rl.rl.prompts import load_prompts, prompt_indices
from icm_rl.rl.rewards import Reward
from tests.architectures import tiny

PROMPTS = ("What is 1 + 2?", "What is 3 + 1 + 2?", "How do I make kefed?", "Where is the zulur?")
# near enough to bite: answers that do not end, a second epoch whose ratios and values are clipped
SETTINGS = {"response_length": 9, "num_ppo_epochs": 2, "learning_rate": 1e-3, "gamma": 0.97}
SETTINGS |= {"cliprange": 0.02, "cliprange_value": 0.01, "vf_coef": 0.7, "temperature": 0.8}
SETTINGS |= {"lr_scheduler_type": "constant", "missing_eos_penalty": 2.0, "kl_coef": 0.3}
SETTINGS |= {"max_grad_norm": 0.5, "value_model": "head"}
HYBRIDS = ("qwen3_next", "qwen3_5_text", "bamba", "granitemoehybrid", "falcon_h1")
DETAILS = {
    "k1 in the reward": {"lam": 1.0},
    "k2 in the reward": {"kl_estimator": "k2"},
    "k3 in the loss": {"kl_estimator": "k3", "kl_penalty": "loss"},
    "a copy as value model": {"value_model": "policy"},
    "entropy bonus": {"entropy_coef": 0.1},
    "whitened rewards": {"whiten_rewards": True},
    "scaled and clipped scores": {"reward_scaling": True, "reward_clip": 0.9},
    "length penalty, no missing-end penalty": {"length_penalty": 0.2, "missing_eos_penalty": None},
    "adaptive KL": {"kl_target": 0.5, "kl_horizon": 40},
}


def letters(prompts, answers):
    return [answer.count("e") - 0.1 * len(answer) for answer in answers]


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS * 2))
    return load_prompts([str(file)])


@pytest.mark.parametrize("detail", DETAILS)
def test_an_update_equals_the_same_written_out(detail, model, tokenizer, prompts, tmp_path):
    updates_as_written_out(SETTINGS | DETAILS[detail], model, tokenizer, prompts, tmp_path)


@pytest.mark.parametrize("name", HYBRIDS)
def test_an_update_of_layers_with_a_state(name, tokenizer, prompts, tmp_path):
    model = tiny(name, AutoModelForCausalLM, len(tokenizer))
    with torch.no_grad():  # some answers end
        model.lm_head.weight[tokenizer.eos_token_id] *= 8
    assert not attends_only(model)
    updates_as_written_out(SETTINGS, model, tokenizer, prompts, tmp_path)


def updates_as_written_out(settings, model, tokenizer, prompts, tmp_path):
    from trl import ModelConfig

    config = PPOConfig(str(tmp_path / "out"), total_episodes=8, **settings)
    value = None
    if config.value_model == "policy":
        value = load_value_model("miniature", ModelConfig(dtype="float32"), tokenizer)
    policy, reference = copy.deepcopy(model), copy.deepcopy(model)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():  # a policy that is no longer the reference
        policy.lm_head.weight += 0.02 * torch.randn(policy.lm_head.weight.shape, generator=noise)
    start = copy.deepcopy(policy), copy.deepcopy(value)
    rewards = [Reward("letters", 1.0, None, letters)]
    trainer = PPO(
        config,
        Accelerator(cpu=True),
        policy,
        reference,
        value,
        Environment(tokenizer, rewards, prompts),
    )
    order = prompt_indices(len(prompts), 0, 8, config.seed)
    rollout = trainer._generate([prompts[k] for k in order], range(8))
    assert 0 < rollout.ended.sum() < 8
    tokens = [
        (
            tokenizer.apply_chat_template(prompts[k].messages, add_generation_prompt=True)[
                "input_ids"
            ],
            responses[mask.bool()].tolist(),
        )
        for k, responses, mask in zip(order, rollout.responses, rollout.mask, strict=True)
    ]
    raw = letters(prompts, rollout.texts)
    record, _ = trainer._step()
    expected, numbers = written_out(
        settings, *start, reference, tokens, raw, rollout.ended.tolist()
    )
    for name, number in numbers.items():
        assert record[name] == pytest.approx(number, abs=2e-5), name
    found = dict(trainer.model.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in expected.items():
        assert (found[name] - parameter).abs().max() < 0.03 * config.learning_rate, name
    kl_coef = settings["kl_coef"]
    if "kl_target" in settings:
        error = np.clip(numbers["objective/kl"] / 0.5 - 1, -0.2, 0.2)
        kl_coef *= 1 + error * 8 / 40
    assert trainer.kl_coef == pytest.approx(kl_coef)


def written_out(settings, policy, value, reference, tokens, raw, ended):
    """The update's parameters and numbers, one answer after the other."""
    head = torch.nn.Linear(policy.config.hidden_size, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    models = torch.nn.ModuleDict({"policy": policy, "value": value or head})

    def read(trained, prompt, response):
        """Log-probability, entropy and value of each token of a response."""
        tokens = torch.tensor([prompt + response])
        states = trained.model(tokens).last_hidden_state[0]
        logits = trained(tokens).logits[0, len(prompt) - 1 : -1] / settings["temperature"]
        log_probs = logits.log_softmax(-1)
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        values = head(states) if value is None else value(tokens).logits[0]
        chosen = log_probs[range(len(response)), response]
        return chosen, entropies, values[len(prompt) - 1 : -1, 0]

    def kl(log_probs, references):
        ratio = (references - log_probs).exp()
        return {
            "k1": -ratio.log(),
            "k2": ratio.log() ** 2 / 2,
            "k3": ratio - 1 - ratio.log(),
        }[settings.get("kl_estimator", "k1")]

    with torch.no_grad():
        old = [read(policy, *answer) for answer in tokens]
        references = [read(reference, *answer)[0] for answer in tokens]
    scores = np.array(raw)
    if settings.get("reward_scaling"):
        scores = scores / scores.std()
    if "reward_clip" in settings:
        scores = np.clip(scores, -settings["reward_clip"], settings["reward_clip"])
    lengths = np.array([len(response) for _, response in tokens])
    scores = scores - (settings["missing_eos_penalty"] or 0) * ~np.array(ended)
    scores = scores - settings.get("length_penalty", 0) * lengths
    kls = [kl(old[k][0], references[k]).numpy() for k in range(8)]
    rewards = []
    for k in range(8):
        in_reward = settings["kl_coef"] if settings.get("kl_penalty") != "loss" else 0
        paid = -in_reward * kls[k]
        paid[-1] += scores[k]
        rewards.append(paid)
    if settings.get("whiten_rewards"):
        center, spread = np.concatenate(rewards).mean(), np.concatenate(rewards).std()
        rewards = [(paid - center) / spread + center for paid in rewards]
    gamma, lam = settings["gamma"], settings.get("lam", 0.95)
    advantages, returns = [], []
    for k, length in enumerate(lengths):
        values = [*old[k][2].tolist(), 0.0]
        errors = [rewards[k][t] + gamma * values[t + 1] - values[t] for t in range(length)]
        advantages.append(
            [
                sum((gamma * lam) ** (later - t) * errors[later] for later in range(t, length))
                for t in range(length)
            ]
        )
        returns.append([a + v for a, v in zip(advantages[k], values, strict=False)])
    center, spread = np.concatenate(advantages).mean(), np.concatenate(advantages).std()

    optimizer = torch.optim.AdamW(models.parameters(), lr=settings["learning_rate"], eps=1e-5)
    clipped = []
    for _ in range(settings["num_ppo_epochs"]):
        total = torch.zeros(())
        for k, length in enumerate(lengths):
            log_probs, entropies, values = read(policy, *tokens[k])
            penalties = kl(log_probs, references[k])
            for t in range(length):
                advantage = (advantages[k][t] - center) / spread
                ratio = (log_probs[t] - old[k][0][t]).exp()
                low, high = 1 - settings["cliprange"], 1 + settings["cliprange"]
                surrogate = torch.min(ratio * advantage, ratio.clamp(low, high) * advantage)
                before, near = old[k][2][t], settings["cliprange_value"]
                limited = values[t].clamp(before - near, before + near)
                errors = (values[t] - returns[k][t]) ** 2, (limited - returns[k][t]) ** 2
                total = total - surrogate + settings["vf_coef"] * torch.max(*errors) / 2
                total = total - settings.get("entropy_coef", 0) * entropies[t]
                if settings.get("kl_penalty") == "loss":
                    total = total + settings["kl_coef"] * penalties[t]
                clipped.append(bool(surrogate < ratio * advantage))
        optimizer.zero_grad()
        (total / int(lengths.sum())).backward()
        torch.nn.utils.clip_grad_norm_(models.parameters(), settings["max_grad_norm"])
        optimizer.step()
    numbers = {
        "objective/scores": scores.mean(),
        "objective/kl": np.mean([part.sum() for part in kls]),
        "objective/entropy": np.mean([old[k][1].sum() for k in range(8)]),
        "val/length": lengths.mean(),
        "val/ended": np.mean(ended),
        "policy/clipfrac_avg": np.mean(clipped),
    }
    assert 0 < numbers["policy/clipfrac_avg"] < 1 and not math.isclose(numbers["objective/kl"], 0)
    return dict(models.named_parameters()), numbers
