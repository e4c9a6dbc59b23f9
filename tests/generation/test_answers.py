import json

import pytest

from icm_rl.generation.answers import AnswersConfig, answer_prompts
from icm_rl.models import load_causal_lm, load_tokenizer

PROMPTS = [[{"role": "user", "content": f"What is {k} + 3?"}] for k in (2, 4, 2)]


def config(folder, **values):
    given = {"response_length": 16, "dtype": "float32", "batch_size": 2, **values}
    return AnswersConfig(answers_dir=str(folder), **given)


def lines(folder):
    return [line for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_second_run_generates_nothing(tmp_path, monkeypatch, temperature):
    first = answer_prompts("miniature", PROMPTS, config(tmp_path, temperature=temperature))
    assert len(lines(tmp_path)) == (3 if temperature else 2)  # a prompt may be answered anew
    monkeypatch.setattr("icm_rl.generation.answers.LocalPolicy", None)  # none can be made
    again = answer_prompts("miniature", PROMPTS[::-1], config(tmp_path, temperature=temperature))
    assert sorted(again) == sorted(first)


def test_an_answer_depends_on_seed_and_prompt_alone(tmp_path):
    together = answer_prompts("miniature", PROMPTS, config(tmp_path / "1", temperature=1.0))
    alone = answer_prompts("miniature", PROMPTS[1:2], config(tmp_path / "2", temperature=1.0))
    assert alone == together[1:2]
    other = answer_prompts("miniature", PROMPTS, config(tmp_path / "1", temperature=1.0, seed=1))
    assert other != together


def test_another_model_is_not_given_the_answers_of_its_neighbor(tmp_path):
    model, tokenizer = load_causal_lm("miniature", "float32"), load_tokenizer("miniature")
    for folder, factor in ((tmp_path / "a", 1.0), (tmp_path / "b", 0.0)):
        model.lm_head.weight.data *= factor
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    answers = [answer_prompts(str(tmp_path / n), PROMPTS, config(tmp_path / "kept")) for n in "ab"]
    assert answers[0] != answers[1]
    names = [json.loads(p.read_text())["name"] for p in (tmp_path / "kept").rglob("policy.json")]
    assert sorted(names) == [str(tmp_path / n) for n in "ab"]


def test_a_line_cut_off_by_a_kill_is_answered_again(tmp_path):
    first = answer_prompts("miniature", PROMPTS, config(tmp_path))
    [file] = tmp_path.rglob("*.jsonl")
    file.write_text(file.read_text()[:-9])
    assert len(lines(tmp_path)) == 2
    assert answer_prompts("miniature", PROMPTS, config(tmp_path)) == first
    assert len(lines(tmp_path)) == 3
