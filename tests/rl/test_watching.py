"""What is watched over a PPO run: the best of a held-out reward, its fall, the answers' shape."""

import json
import math

import pytest
import torch

from icm_rl.rl.diagnostics import correlation, kl_by_position
from icm_rl.rl.watching import Watched
from tests.conftest import rows, run

REWARDS = """
def words(completions):
    return [len(c[-1]["content"].split()) for c in completions]


def long(completions, **kwargs):
    return [min(n, 40) / 8 for n in words(completions)]


def moderate(completions, **kwargs):
    mean = sum(words(completions)) / len(completions)
    return [min(mean, 9) - 0.2 * max(0, mean - 9)] * len(completions)
"""


def test_the_best_is_kept_and_a_fall_is_a_share_of_the_gain():
    watched = Watched(1.0)
    assert watched.is_best(0, 1.0) and watched.lost(0.5) == 0  # nothing gained yet
    assert watched.is_best(4, 3.0) and not watched.is_best(5, 2.5)
    assert (watched.update, watched.score) == (4, 3.0)
    # of two falls in a row the smaller counts
    assert [watched.lost(value) for value in (2.5, 2.6, 3.0, 2.0, 2.2)] == pytest.approx(
        [0.0, 0.2, 0.0, 0.0, 0.4]
    )


def test_the_kl_is_told_by_position():
    kl = torch.tensor([[4.0, 1.0, 3.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 2.0, 6.0, 0.0]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
    found = kl_by_position(kl, mask, 20, lambda tensor: tensor)
    # tokens 2 to 4 are five in all, 5 to 16 one; none is later
    assert found == {"kl/1": 3.0, "kl/2-4": pytest.approx(6 / 5), "kl/5-16": 6.0}


def test_correlation_is_pearsons_and_0_of_a_constant():
    one, other = torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([2.0, 1.0, 4.0, 4.0])
    expected = torch.corrcoef(torch.stack([one, other]))[0, 1].item()
    assert correlation(one, other).item() == pytest.approx(expected)
    assert correlation(one, torch.ones(4)).item() == 0


@pytest.mark.process
def test_a_run_ends_where_the_policy_games_its_reward(data, tmp_path):
    """The reward loves length without end, the watched one up to nine words on average."""
    (tmp_path / "rewards.py").write_text(REWARDS)
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join((data / "prompts.jsonl").read_text().splitlines(True)[::4]))
    long, watched = (f"{tmp_path}/rewards.py:{name}" for name in ("long", "moderate"))
    out = tmp_path / "out"
    run(
        *("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--rewards", long, f"{watched}=0", "--prompts", data / "prompts.jsonl"),
        *("--eval_prompts", held_out, "--eval_steps", 1, "--watch", watched, "--max_loss", 0.03),
        *("--missing_eos_penalty", 0, "--kl_coef", 0, "--per_device_train_batch_size", 16),
        *("--total_episodes", 1280, "--learning_rate", 6e-5, "--output_dir", out),
    )
    records = rows(out / "history.jsonl")
    assert len(records) < 40  # it ended early
    values = [record[f"eval/rewards/{watched}"] for record in records]
    best = json.loads((out / "metrics.json").read_text())["best"]
    assert best["score"] == max(values) == values[best["update"] - 1]
    lost = [(best["score"] - value) / (best["score"] - best["first"]) for value in values]
    assert min(lost[-2:]) > 0.03 and max(lost[-2:]) < 0.1
    assert min(lost[-3:-1]) <= 0.03  # not before
    assert records[-1]["objective/scores"] > records[0]["objective/scores"]
    assert records[-1]["val/score_by_length"] > 0.5
    assert all(math.isfinite(value) for record in records for value in record.values())
    assert (out / "best" / "model.safetensors").exists()


@pytest.mark.process
def test_what_is_watched_must_be_there(data, tmp_path):
    config = ("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml")
    flags = (*config, "--prompts", data / "prompts.jsonl", "--rewards", "math_answer")
    said = run(*flags, "--max_loss", 0.1, check=False).stderr
    assert "--max_loss needs held-out prompts; give --eval_prompts, or drop it" in said
    flags = (*flags, "--eval_prompts", data / "prompts.jsonl")
    said = run(*flags, "--watch", "math", check=False).stderr
    assert "--watch math: not one of --rewards: math_answer" in said
