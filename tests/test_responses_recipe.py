"""Responses sampled by the recipe, and labeled by the next."""

import json

import pytest

from icm_rl.files import write_jsonl
from tests.conftest import rows, run

pytestmark = pytest.mark.process

TEMPLATE = "Query: {query}\nResponse: {response}\nClaim: The response is helpful\nThat is"


def test_sampled_responses_are_what_the_next_stage_labels(data, tmp_path):
    prompts = rows(data / "prompts.jsonl")[:6]
    write_jsonl(tmp_path / "prompts.jsonl", [{"id": f"p{k}"} | p for k, p in enumerate(prompts)])
    flags = ("--model", "miniature", "--prompts", tmp_path / "prompts.jsonl")
    short = ("--response_length", 16, "--answers_dir", tmp_path / "answers")

    def sampled(folder, *more):
        run("recipes/responses.py", *flags, *short, "--output_dir", tmp_path / folder, *more)
        return rows(tmp_path / folder / "responses.jsonl")

    found = sampled("one", "--responses_per_prompt", 3)
    assert [row["id"] for row in found] == [f"p{k}" for k in range(6)]
    assert all(len(row["responses"]) == 3 for row in found)
    texts = [text for row in found for text in row["responses"]]
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert metrics["distinct_responses"] == len(set(texts)) > 9
    # the same for the same seed, and the first of more; otherwise for another one
    more = sampled("more", "--responses_per_prompt", 4, "--batch_size", 5)
    assert [row["responses"][:3] for row in more] == [row["responses"] for row in found]
    other = sampled("other", "--responses_per_prompt", 3, "--seed", 1)
    assert [row["responses"] for row in other] != [row["responses"] for row in found]
    run(
        *("recipes/icm.py", "--model", "miniature", "--task", "responses", "--template", TEMPLATE),
        *("--data", tmp_path / "one" / "responses.jsonl", "--output_dir", tmp_path / "icm"),
        *("--objective", "centered", "--sweeps", 2, "--pairing", "all", "--pool_size", 9),
    )
    labeled = rows(tmp_path / "icm" / "labels.jsonl")
    assert {row["group"] for row in labeled} <= {f"p{k}" for k in range(6)}
    for row in rows(tmp_path / "icm" / "preferences.jsonl"):
        assert row["log_odds"] > 0


def test_openings_go_before_each_prompt_and_a_rule_labels_what_they_give(data, tmp_path):
    prompts = rows(data / "prompts.jsonl")[:3]
    write_jsonl(tmp_path / "prompts.jsonl", prompts)
    openings = [
        [{"role": "user", "content": p["prompt"]}, {"role": "assistant", "content": p["prompt"]}]
        for p in rows(data / "prompts.jsonl")[3:5]
    ]
    write_jsonl(tmp_path / "openings.jsonl", [{"prompt": opening} for opening in openings])
    (tmp_path / "own.py").write_text(
        "def long(prompt, answer):\n    return None if len(answer) == 5 else len(answer) > 5\n"
    )
    common = ("--model", "miniature", "--response_length", 8, "--answers_dir", tmp_path / "answers")

    def sampled(folder, *more):
        run("recipes/responses.py", *common, *more, "--output_dir", tmp_path / folder)
        return rows(tmp_path / folder / "responses.jsonl")

    flags = ("--prompts", tmp_path / "prompts.jsonl", "--responses_per_prompt", 2)
    rule = ("--rule", f"{tmp_path / 'own.py'}:long")
    found = sampled("one", *flags, "--openings", tmp_path / "openings.jsonl", *rule)
    assert [row["prompt"] for row in found] == [
        [{"role": "user", "content": p["prompt"]}] for p in prompts
    ]
    # the same conversations asked as prompts of their own get the same responses
    whole = [{"prompt": [*opening, *row["prompt"]]} for row in found for opening in openings]
    write_jsonl(tmp_path / "whole.jsonl", whole)
    apart = sampled("two", "--prompts", tmp_path / "whole.jsonl", "--responses_per_prompt", 2)
    pairs = zip(apart[::2], apart[1::2], strict=True)
    assert [row["responses"] for row in found] == [
        one["responses"] + other["responses"] for one, other in pairs
    ]
    metrics = json.loads((tmp_path / "one" / "metrics.json").read_text())
    labels = [label for row in found for label in row["labels"]]
    texts = [text for row in found for text in row["responses"]]
    assert labels == [None if len(text) == 5 else len(text) > 5 for text in texts]
    assert metrics["gold_true"] == labels.count(True)
    assert metrics["gold_unknown"] == labels.count(None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--prompts", "p.jsonl"), "--model is missing; give it, or a --config that has it"),
        (("--model", "miniature"), "--prompts is missing; give it, or a --config that has it"),
        (
            ("--model", "miniature", "--prompts", "p.jsonl", "--responses_per_prompt", 1),
            "--responses_per_prompt is 1, which is better than no other; give 2 or more, or",
        ),
        (
            ("--model", "miniature", "--prompts", "p.jsonl", "--temperature", 0),
            "--temperature is 0.0; give more than 0",
        ),
        (("--model", "miniature", "--prompts", "no.jsonl"), "no.jsonl: no such file"),
        (
            ("--model", "miniature", "--prompts", "LICENSE", "--rule", "nice"),
            "--rule 'nice' is not known; give 'positive' or FILE.py:FUNCTION",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(flags, message):
    done = run("recipes/responses.py", *flags, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
