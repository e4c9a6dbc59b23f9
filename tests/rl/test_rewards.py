import math

import pytest

from icm_rl.errors import InputError
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rl.prompts import check_lengths, load_prompts
from icm_rl.rl.rewards import (
    RewardsConfig,
    check_sources,
    input_paths,
    load_rewards,
    weighted_sum,
)

MATH = '{"prompt": "What is 2 + 3?", "answer": "5"}\n{"prompt": "What is 1 + 1?", "answer": 2}\n'
TALK = (
    '{"prompt": [{"role": "user", "content": "Hi"}]}\n{"prompt": "Tell me.", "source": "stories"}\n'
)
FUNCTIONS = """
def brevity(prompts, completions, source, **kwargs):
    assert [prompt[-1]["role"] for prompt in prompts] == ["user"] * len(prompts)
    texts = [completion[0]["content"] for completion in completions]
    return [None if s == "stories" else -len(t) for s, t in zip(source, texts)]

def broken(completions, **kwargs):
    return [float("nan")] * len(completions)
"""


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "math.jsonl").write_text(MATH)
    (tmp_path / "talk.jsonl").write_text(TALK)
    (tmp_path / "own.py").write_text(FUNCTIONS)
    return load_prompts([str(tmp_path / "math.jsonl"), str(tmp_path / "talk.jsonl")])


def load(*rewards):
    return load_rewards(RewardsConfig(prompts=["-"], rewards=list(rewards)))


def test_what_a_run_is_bound_to_are_the_files_of_prompts_and_rewards(prompts, tmp_path):
    own = f"{tmp_path / 'own.py'}:brevity"
    config = RewardsConfig(prompts=["math.jsonl"], rewards=[f"{own}=2", "math_answer"])
    assert input_paths(config, load_rewards(config)) == {
        own: str(tmp_path / "own.py"),
        "math_answer": "math_answer",
        "math.jsonl": "math.jsonl",
    }


def test_a_mix_of_models_functions_and_verified_answers(prompts, tmp_path, reward_model):
    assert [prompt.source for prompt in prompts] == ["math", "math", "talk", "stories"]
    answers = ["It is \\boxed{5}.", "1 + 1 = 3.", "Hello.", "Once."]
    own = f"{tmp_path / 'own.py'}:brevity"
    rewards = load(f"{reward_model}=0.5", "math_answer=2@math", f"{own}=0.1", f"{own}=3@talk")
    check_sources(rewards, prompts)
    found, terms = weighted_sum(rewards, prompts, answers)
    scores = RewardScorer.load(str(reward_model)).score(
        [conversation(p.messages, a) for p, a in zip(prompts, answers, strict=True)]
    )
    assert terms[str(reward_model)] == pytest.approx(scores)
    assert terms["math_answer@math"] == [1.0, 0.0, None, None]
    lengths = [len(answer) for answer in answers]
    assert terms[own] == [-lengths[0], -lengths[1], -lengths[2], None]
    expected = [
        0.5 * scores[0] + 2 - 0.1 * lengths[0],
        0.5 * scores[1] - 0.1 * lengths[1],
        0.5 * scores[2] - (0.1 + 3) * lengths[2],
        0.5 * scores[3],
    ]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("5", "2 + 3 = 5.", 1),
        ("5", "2 + 3 = 6.", 0),
        ("#### 1,234", "The total is 1234", 1),
        ("1/2", "\\boxed{\\frac{1}{2}}", 1),
        ("5", "I do not know.", 0),
    ],
)
def test_math_answers_are_verified(gold, answer, right, tmp_path):
    file = tmp_path / "math.csv"
    file.write_text(f'prompt,answer\nWhat?,"{gold}"\n')
    [prompt] = load_prompts([str(file)])
    assert weighted_sum(load("math_answer"), [prompt], [answer])[0] == [right]


def test_what_is_wrong_is_named(prompts, tmp_path):
    broken = f"{tmp_path / 'own.py'}:broken"
    with pytest.raises(InputError) as error:
        weighted_sum(load(broken), prompts, ["a", "b", "c", "d"])
    where = f"{tmp_path / 'math.jsonl'}, line 1"
    assert str(error.value) == (
        f"{broken} gives nan for the answer 'a' to the prompt 'What is 2 + 3?' ({where})"
    )
    for entry, message in {
        "math_answer=heavy": "not NAME, NAME=WEIGHT or NAME=WEIGHT@SOURCE",
        f"{tmp_path / 'own.py'}:none": "defines no function 'none'",
        "none.py:f": "none.py cannot be read",
        str(tmp_path): "no tokenizer",
    }.items():
        with pytest.raises(InputError, match=message):
            load(entry)
    with pytest.raises(InputError, match="line 1: math_answer needs the field 'answer'"):
        weighted_sum(load("math_answer"), prompts, ["5", "2", "", ""])
    with pytest.raises(InputError, match="no prompt is of that source"):
        check_sources(load("math_answer@maths"), prompts)
    with pytest.raises(InputError, match="line 1: nothing in --rewards rewards the source 'talk'"):
        check_sources(load("math_answer@math"), prompts)


def test_prompts_that_do_not_fit_are_named(prompts, tokenizer, model):
    context = model.config.max_position_embeddings
    longest = max(
        len(tokenizer.apply_chat_template(p.messages, add_generation_prompt=True)["input_ids"])
        for p in prompts
    )
    check_lengths(prompts, tokenizer, model.config, context - longest)
    with pytest.raises(InputError, match=f"do not fit the model's context of {context}"):
        check_lengths(prompts, tokenizer, model.config, context - longest + 1)


def test_none_is_no_number(prompts, tmp_path):
    own = f"{tmp_path / 'own.py'}:brevity"
    sums, terms = weighted_sum(load(own), prompts, ["a"] * 4)
    assert sums == [-1, -1, -1, 0]
    assert terms[own][3] is None and not any(map(math.isnan, sums))
