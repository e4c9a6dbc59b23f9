import pytest
import torch

from icm_rl.rl.prompts import prompt_indices
from icm_rl.rl.rollout import generate, response_log_probs

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in ("What is 2 + 3?", "How do I rob the well?", "What is 2 + 3 + 1?")
]


def test_log_probs_equal_those_of_each_answer_alone(model, tokenizer):
    rollout = generate(model, tokenizer, PROMPTS, 16, 1.0)
    found, entropies = response_log_probs(
        model, rollout.sequences, rollout.attention_mask, rollout.response_length, 0.7
    )
    for row, prompt in enumerate(PROMPTS):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        answer = rollout.responses[row][rollout.mask[row].bool()].tolist()
        logits = model(torch.tensor([start + answer])).logits[0] / 0.7
        log_probs = logits.log_softmax(-1)
        for t, token in enumerate(answer):
            at = len(start) - 1 + t
            assert found[row, t].item() == pytest.approx(log_probs[at, token].item(), abs=1e-4)
            entropy = -(log_probs[at].exp() * log_probs[at]).sum().item()
            assert entropies[row, t].item() == pytest.approx(entropy, abs=1e-4)


def test_answers_stop_at_the_end_token(model, tokenizer):
    rollout = generate(model, tokenizer, PROMPTS, 24, 1.0)
    for row in range(len(PROMPTS)):
        answer = rollout.responses[row][rollout.mask[row].bool()].tolist()
        assert (tokenizer.eos_token_id in answer) == bool(rollout.ended[row])
        assert tokenizer.eos_token_id not in answer[:-1]
        assert tokenizer.decode(answer, skip_special_tokens=True).strip() == rollout.texts[row]
    cut = generate(model, tokenizer, PROMPTS, 2, 1.0)
    assert not cut.ended.any()
    assert cut.mask.all()


def test_prompts_come_in_fresh_permutations_wherever_one_starts():
    whole = prompt_indices(7, 0, 21, seed=3)
    for epoch in range(3):
        assert sorted(whole[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert whole[:7] != whole[7:14]
    assert prompt_indices(7, 5, 10, seed=3) == whole[5:15]
    assert prompt_indices(7, 0, 21, seed=4) != whole
