"""Pairs labeled by a reward model, part by part."""

import json

import pytest

from icm_rl.data import read_rows
from icm_rl.files import write_jsonl
from icm_rl.reward import spreading
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.reward.spreading import SpreadConfig, spread
from tests.conftest import launched, rows, run


@pytest.fixture(scope="module")
def scorer(reward_model) -> RewardScorer:
    return RewardScorer.load(str(reward_model), "float32")


def reward(scorer: RewardScorer, prompt: str, answer: str) -> float:
    [score] = scorer.score([conversation(prompt, answer)])
    return score


@pytest.mark.process
def test_pairs_are_labeled_by_their_scores(reward_model, scorer, data, tmp_path):
    pairs = rows(data / "preferences_test.jsonl")[:20]
    pairs[3]["response_b"] = pairs[3]["response_a"]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    run(
        *("recipes/spread.py", "--reward_model", reward_model, "--dtype", "float32"),
        *("--data", tmp_path / "pairs.jsonl", "--output_dir", tmp_path / "out"),
    )
    found = rows(tmp_path / "out" / "preferences.jsonl")
    del pairs[3]
    right = 0
    for row, pair in zip(found, pairs, strict=True):
        a, b = pair["response_a"], pair["response_b"]
        margin = reward(scorer, pair["prompt"], a) - reward(scorer, pair["prompt"], b)
        assert row["prompt"] == [{"role": "user", "content": pair["prompt"]}]
        assert row["chosen"][0]["content"] == (a if margin > 0 else b)
        assert row["rejected"][0]["content"] == (b if margin > 0 else a)
        assert row["log_odds"] == pytest.approx(abs(margin), abs=1e-4)
        right += (margin > 0) == pair["label"]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["pairs"], metrics["pairs_dropped"]) == (19, 1)
    assert metrics["label_accuracy"] == pytest.approx(right / 19)
    assert not (tmp_path / "out" / "parts").exists()


class Counting:
    """A scorer that counts what it is asked, and stops before a given part."""

    def __init__(self, scorer: RewardScorer, parts: int):
        self.scorer, self.parts, self.asked = scorer, parts, 0

    def score_groups(self, groups):
        if self.asked == self.parts:
            raise KeyboardInterrupt
        self.asked += 1
        return self.scorer.score_groups(groups)


def test_a_part_that_is_there_is_not_scored_again(scorer, data, tmp_path, monkeypatch):
    monkeypatch.setattr(spreading, "ROWS_AT_ONCE", 4)
    config = SpreadConfig("unused", data=str(data / "preferences_test.jsonl"), limit=10)
    whole = spread(config, scorer, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        spread(config, Counting(scorer, 2), tmp_path / "out")
    assert not (tmp_path / "out" / "preferences.jsonl").exists()
    rest = Counting(scorer, 9)
    assert spread(config, rest, tmp_path / "out") == whole and rest.asked == 1
    for folder in ("whole", "out"):
        assert len(read_rows(tmp_path / folder / "preferences.jsonl")) == whole["pairs"] == 10
    one, other = (tmp_path / folder / "preferences.jsonl" for folder in ("whole", "out"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.process
def test_two_processes_share_the_parts_out(reward_model, data, tmp_path):
    pairs = rows(data / "preferences_train.jsonl") * 2
    write_jsonl(tmp_path / "pairs.jsonl", [{**p, "id": str(k)} for k, p in enumerate(pairs)])
    command = ("recipes/spread.py", "--reward_model", reward_model, "--dtype", "float32")
    command = (*command, "--data", tmp_path / "pairs.jsonl", "--limit", 300)
    run(*command, "--output_dir", tmp_path / "one")
    launched(("--multi_gpu", "--num_processes", 2), 2, *command, "--output_dir", tmp_path / "two")
    one, two = (rows(tmp_path / folder / "preferences.jsonl") for folder in ("one", "two"))
    assert len(one) == 300 and [r["chosen"] for r in one] == [r["chosen"] for r in two]


@pytest.mark.process
def test_what_cannot_be_spread_is_said_in_one_line(reward_model, data, tmp_path):
    def refused(*flags) -> str:
        done = run("recipes/spread.py", *flags, "--output_dir", tmp_path / "out", check=False)
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    pairs = ("--data", data / "preferences_test.jsonl")
    assert refused(*pairs) == (
        "error: --reward_model is missing; give it, or a --config that has it"
    )
    assert "none.jsonl: no such file; check the path" in refused(
        "--reward_model", reward_model, "--data", tmp_path / "none.jsonl"
    )
    assert "has no reward head" in refused("--reward_model", "miniature", *pairs)
    facts = ("--data", data / "facts_test.jsonl")
    assert "the field 'prompt' is missing" in refused("--reward_model", reward_model, *facts)
