import pytest
import torch
from torch.distributed import HashStore
from transformers import GenerationConfig

from icm_rl.generation.rollout import (
    InverseTransformSampling,
    generate,
    log_probs_and_entropies,
    read_responses,
    sampling_noise,
)
from icm_rl.rl.models import PolicyWithValue
from icm_rl.rl.prompts import prompt_indices

PROMPTS = [
    [{"role": "user", "content": text}]
    for text in ("What is 2 + 3?", "How do I rob the well?", "What is 2 + 3 + 1?")
]


def answers(model, tokenizer, length=16, **kwargs):
    return generate(
        model, tokenizer, PROMPTS, length, 1.0, sampling_noise(0, range(3), 24), **kwargs
    )


def read(model, rollout, rows=slice(None), temperature=0.7):
    inputs = rollout.inputs(torch.arange(3)[rows])
    logits = read_responses(model, *inputs).logits
    return log_probs_and_entropies(logits, inputs[0], temperature)


def test_log_probs_equal_those_of_each_answer_alone(model, tokenizer):
    rollout = answers(model, tokenizer)
    found, entropies = read(model, rollout)
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


def test_padding_is_left_out_of_some_rows(model, tokenizer):
    rollout = answers(model, tokenizer)
    whole, _ = read(model, rollout)
    for row in range(3):
        sequences, attention, response = rollout.inputs(torch.tensor([row]))
        assert attention.all()
        assert response == rollout.mask[row].sum()
        assert sequences[0, -response:].equal(rollout.responses[row, :response])
        alone, _ = read(model, rollout, slice(row, row + 1))
        assert torch.allclose(alone[0], whole[row, :response], atol=1e-4)


def test_answers_stop_at_the_end_token(model, tokenizer):
    rollout = answers(model, tokenizer, 24)
    for row in range(len(PROMPTS)):
        answer = rollout.responses[row][rollout.mask[row].bool()].tolist()
        assert (tokenizer.eos_token_id in answer) == bool(rollout.ended[row])
        assert tokenizer.eos_token_id not in answer[:-1]
        assert tokenizer.decode(answer, skip_special_tokens=True).strip() == rollout.texts[row]
    cut = answers(model, tokenizer, 2)
    assert not cut.ended.any()
    assert cut.mask.all()


def test_answers_do_not_depend_on_their_batch(model, tokenizer):
    together = answers(model, tokenizer)
    apart = answers(model, tokenizer, batch_size=1)
    assert apart.texts == together.texts
    assert apart.sequences.equal(together.sequences)
    noise = sampling_noise(0, [2], 24)
    assert generate(model, tokenizer, PROMPTS[2:], 16, 1.0, noise).texts == together.texts[2:]


def test_sampling_follows_the_probabilities_at_the_temperature():
    logits = torch.tensor([2.0, -torch.inf, 0.5, 1.0, -1.0])
    noise = sampling_noise(7, range(4000), 2)
    assert noise.unique().numel() == 8000
    assert 0 < noise.min() < noise.max() <= 1
    assert sampling_noise(8, [0], 2).ne(noise[0]).all()
    sampler = InverseTransformSampling(noise, temperature=0.5, start=3)
    scores = sampler(torch.zeros(4000, 4), logits.expand(4000, -1))
    assert (scores == 0).sum(1).eq(1).all()
    counts = torch.bincount(scores.argmax(1), minlength=5)
    probabilities = (logits / 0.5).softmax(0)
    deviations = (4000 * probabilities * (1 - probabilities)).sqrt()
    assert counts[1] == 0
    assert ((counts - 4000 * probabilities).abs() <= 4 * deviations).all()
    # the second token of an answer takes its own noise: the place among cumulated shares
    cumulated, row = probabilities.cumsum(0).tolist(), 17
    first = next(token for token in range(5) if cumulated[token] >= noise[row, 1])
    assert scores[row].argmax() == first
    edges = torch.tensor([[1.0], [2.0**-53]], dtype=torch.double)
    ends = InverseTransformSampling(edges, 1.0, 3)(torch.zeros(2, 3), logits.expand(2, -1))
    assert ends.argmax(1).tolist() == [4, 0]


def test_a_value_is_read_where_its_token_is_predicted(model, tokenizer):
    rollout = answers(model, tokenizer)
    inputs = rollout.inputs(torch.arange(3))
    with_head = PolicyWithValue(model, None)
    assert not with_head(*inputs, 1.0)[2].any()
    torch.nn.init.normal_(with_head.value.weight)
    log_probs, _, values = with_head(*inputs, 0.7)
    assert torch.allclose(log_probs, read(model, rollout)[0])
    for row, prompt in enumerate(PROMPTS):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        answer = rollout.responses[row][rollout.mask[row].bool()].tolist()
        states = model.model(torch.tensor([start + answer])).last_hidden_state[0]
        for t in range(len(answer)):
            alone = states[len(start) - 1 + t] @ with_head.value.weight[0]
            assert values[row, t].item() == pytest.approx(alone.item(), abs=1e-3)


def test_prompts_come_in_fresh_permutations_wherever_one_starts():
    whole = prompt_indices(7, 0, 21, seed=3)
    for epoch in range(3):
        assert sorted(whole[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert whole[:7] != whole[7:14]
    assert prompt_indices(7, 5, 10, seed=3) == whole[5:15]
    assert prompt_indices(7, 0, 21, seed=4) != whole


def test_a_models_own_generation_config_changes_no_answer(model, tokenizer, monkeypatch):
    plain = answers(model, tokenizer)
    own = GenerationConfig(eos_token_id=2, repetition_penalty=3.0, cache_implementation="static")
    monkeypatch.setattr(model, "generation_config", own)
    assert answers(model, tokenizer).texts == plain.texts
    assert model.generation_config is own


def test_answers_that_ended_leave_their_batch(model, tokenizer):
    batches: list[int] = []
    asked = [model, tokenizer, PROMPTS * 4, 24, 1.0, sampling_noise(0, range(12), 24)]
    with model.register_forward_pre_hook(
        lambda *call: batches.append(len(call[2]["input_ids"])), with_kwargs=True
    ):
        rollout = generate(*asked)
        leaving = list(batches)
        batches.clear()
        torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        synced = generate(*asked, synced=True)
        torch.distributed.destroy_process_group()
    going, expected = rollout.mask.sum(1).tolist(), []
    for step in range(1, max(going) + 1):
        expected.append(len(going))
        if sum(length <= step for length in going) >= len(going) / 2:
            going = [length for length in going if length > step]
    assert len(set(expected)) > 2
    assert leaving == expected
    assert batches == [12] * len(expected)
    assert synced.texts == rollout.texts
