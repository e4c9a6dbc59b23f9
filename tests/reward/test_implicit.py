import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from icm_rl.errors import InputError
from icm_rl.models import load_causal_lm, load_tokenizer
from icm_rl.reward.implicit import ImplicitRewardScorer
from icm_rl.reward.scorer import conversation

PROMPTS = ("What is 2 + 3?", "How do I rob the well?")
ANSWERS = ("2 + 3 = 5.", "Gladly, wash it, then boil it in this land.", "No.")
GROUPS = [[conversation(prompt, answer) for answer in ANSWERS] for prompt in PROMPTS]


def other(model):
    """The model with weights moved a little, as a policy that was trained from it."""
    policy = load_causal_lm("miniature", "float32")
    generator = torch.Generator().manual_seed(0)
    for weights in policy.parameters():
        weights.data += 0.02 * torch.randn(weights.shape, generator=generator)
    return policy


def answer_log_prob(model, tokenizer, messages):
    """Token by token, of the answer alone."""
    template = tokenizer.apply_chat_template
    prompt = template(messages[:-1], add_generation_prompt=True, return_dict=False)
    ids = template(messages, return_dict=False)
    assert ids[: len(prompt)] == prompt
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(log_probs[k - 1, ids[k]].item() for k in range(len(prompt), len(ids)))


@pytest.mark.parametrize("batch_tokens", [40, 16_384])
def test_it_is_the_difference_of_the_answers_log_probabilities(model, tokenizer, batch_tokens):
    policy = other(model)
    scorer = ImplicitRewardScorer(policy, model, tokenizer, batch_tokens)
    for group, rewards in zip(GROUPS, scorer.score_groups(GROUPS), strict=True):
        expected = [
            answer_log_prob(policy, tokenizer, chat) - answer_log_prob(model, tokenizer, chat)
            for chat in group
        ]
        assert rewards == pytest.approx(expected, abs=1e-3)


def test_a_model_with_a_window_is_given_whole_sequences(tokenizer):
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        sliding_window=4,
    )
    models = [AutoModelForCausalLM.from_config(config).eval() for _ in range(2)]
    scorer = ImplicitRewardScorer(*models, tokenizer)
    for group, rewards in zip(GROUPS, scorer.score_groups(GROUPS), strict=True):
        expected = [
            answer_log_prob(models[0], tokenizer, chat)
            - answer_log_prob(models[1], tokenizer, chat)
            for chat in group
        ]
        assert rewards == pytest.approx(expected, abs=1e-4)


def test_a_policy_is_its_own_reference_without_any_reward(model, tokenizer):
    [rewards, _] = ImplicitRewardScorer(model, model, tokenizer).score_groups(GROUPS)
    assert rewards == [0, 0, 0]


def test_a_reference_of_other_tokens_is_refused(tmp_path):
    tokenizer = load_tokenizer("miniature")
    tokenizer.add_tokens(["<other>"])
    tokenizer.save_pretrained(tmp_path)
    load_causal_lm("miniature").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its tokens are not those of miniature"):
        ImplicitRewardScorer.load("miniature", str(tmp_path))
