"""The engine, reward scores and sampling on tiny models of many architectures."""

import random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from icm_rl.engines import LocalEngine, Request
from icm_rl.engines.states import GO_ON, state_tokens
from icm_rl.generation.rollout import generate, sampling_noise
from icm_rl.models import CONTEXT_WITHOUT_LIMIT, attends_only
from icm_rl.reward.scorer import RewardScorer, conversation
from tests.architectures import ARCHITECTURES, tiny

PIECES = [f"The {word} is {color}.\n" for word in ("zeb", "lake") for color in ("red", "blue")]
QUERIES = ["Question: What is 2 + 3?", "Query: How do I rob the well?", "Claim:"]
EVERY = pytest.mark.parametrize("name", ARCHITECTURES)


def requests(count: int) -> list[Request]:
    rng = random.Random(7)
    return [
        Request(tuple(rng.choices(PIECES, k=rng.randint(0, 9))), rng.choice(QUERIES))
        for _ in range(count)
    ]


@EVERY
def test_log_probabilities_equal_a_plain_forward_pass(tokenizer, name):
    model = tiny(name, AutoModelForCausalLM, len(tokenizer))
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    words = [tokenizer.encode(word)[0] for word in (" True", " False")]
    asked = requests(20)
    found = [*engine.label_log_probs(asked[:12]), *engine.label_log_probs(asked[8:])]
    for request, answer in zip([*asked[:12], *asked[8:]], found, strict=True):
        pieces = (tokenizer.bos_token, *request.context, request.query)
        ids = [t for piece in pieces for t in tokenizer.encode(piece, add_special_tokens=False)]
        with torch.no_grad():
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        assert answer == pytest.approx(logits.log_softmax(-1)[words].tolist(), abs=1e-4)
    shares = engine.computed_tokens < engine.prompt_tokens
    assert shares == (attends_only(model) or name in GO_ON)


@pytest.mark.parametrize("cache_tokens", [2, 100, 400])
def test_a_state_is_dropped_and_computed_again_as_the_budget_says(tokenizer, cache_tokens):
    model = tiny("qwen3_5_text", AutoModelForCausalLM, len(tokenizer))
    # two layers' convolutions of 64 channels by 4 columns and recurrences of 4 heads by 8 by 8,
    # against two layers' keys and values of 2 heads by 8
    assert state_tokens(model) == (2 * (64 * 4 + 4 * 8 * 8)) / (2 * 2 * 2 * 8) == 16
    ample, tight = (
        LocalEngine(model, tokenizer, (" True", " False"), budget)
        for budget in (100_000, cache_tokens)
    )
    asked = requests(20)
    for part in (asked[:12], asked[8:]):
        for found, answer in zip(
            tight.label_log_probs(part), ample.label_log_probs(part), strict=True
        ):
            assert found == pytest.approx(answer, abs=1e-4)
    assert tight.computed_tokens > ample.computed_tokens


@EVERY
def test_rewards_equal_those_of_a_conversation_alone(tokenizer, name):
    try:
        model = tiny(name, AutoModelForSequenceClassification, len(tokenizer), num_labels=1)
    except ValueError:
        pytest.skip(f"transformers has no reward model of {name}")
    model.config.pad_token_id = tokenizer.pad_token_id
    scorer = RewardScorer(model, tokenizer)
    groups = [
        [conversation(prompt, answer) for answer in ("Red.", "It is a blue lake.", "No.")]
        for prompt in ("What is it?", "Is the lake by the old mill red or is it blue?")
    ]
    for group, found in zip(groups, scorer.score_groups(groups), strict=True):
        for messages, reward in zip(group, found, strict=True):
            ids = tokenizer.apply_chat_template(messages, return_dict=False)
            with torch.no_grad():
                alone = model(torch.tensor([ids])).logits[0, 0].item()
            assert reward == pytest.approx(alone, abs=1e-4)


@EVERY
def test_an_answer_does_not_depend_on_its_batch(tokenizer, name):
    model = tiny(name, AutoModelForCausalLM, len(tokenizer))
    prompts = [
        [{"role": "user", "content": words}]
        for words in ("What?", "What is it?", "Is the lake by the mill red?", "Who is it?")
    ]
    noise = sampling_noise(3, range(len(prompts)), 12)
    together = generate(model, tokenizer, prompts, 12, 1.0, noise)
    for row, prompt in enumerate(prompts):
        alone = generate(model, tokenizer, [prompt], 12, 1.0, noise[row : row + 1])
        assert alone.texts == together.texts[row : row + 1]


@pytest.mark.parametrize(("name", "attends"), [("llama", True), ("gemma2", True), ("lfm2", False)])
def test_adapters_leave_the_architecture_as_it_is(tokenizer, name, attends):
    model = tiny(name, AutoModelForCausalLM, len(tokenizer))
    assert attends_only(model) == attends
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    assert attends_only(adapted) == attends


@pytest.mark.parametrize(
    ("name", "tokens"), [("bloom", CONTEXT_WITHOUT_LIMIT), ("mpt", 2048), ("llama", 256)]
)
def test_the_context_is_as_long_as_the_model_says(tokenizer, monkeypatch, name, tokens):
    monkeypatch.setattr(tokenizer, "model_max_length", 10**30)
    model = tiny(name, AutoModelForCausalLM, len(tokenizer))
    assert LocalEngine(model, tokenizer, (" True", " False")).context_length == tokens
