"""A real model as a user runs it: from unlabeled responses to a reward model and a policy."""

import json

import pytest

from icm_rl.files import write_jsonl
from tests.conftest import rows, run

pytestmark = pytest.mark.process

RESPONSES = {
    "a film": ["A warm, charming film that I love.", "A boring film with terrible actors."],
    "a hotel": ["The room was dirty and the staff were rude.", "A lovely room and friendly staff."],
    "a phone": ["It is fast and light and I love it.", "It broke after a week and I hate it."],
    "a novel": ["A weak plot and a bad ending.", "A moving book that I enjoyed very much."],
}


def test_responses_are_labeled_a_reward_model_learns_them_and_a_policy_it(smollm2, tmp_path):
    prompts = [
        {
            "id": topic,
            "prompt": f"Write one sentence of a review of {topic}.",
            "responses": responses,
            "labels": ["love" in text or "enjoyed" in text for text in responses],
        }
        for topic, responses in RESPONSES.items()
    ]
    write_jsonl(tmp_path / "responses.jsonl", prompts)
    run(
        *("recipes/icm.py", "--config", "recipes/configs/smollm2/responses.yaml"),
        *("--data", tmp_path / "responses.jsonl", "--output_dir", tmp_path / "icm"),
        *("--sweeps", 3, "--iterations_per_example", 0.25, "--processes", 1),
    )
    metrics = json.loads((tmp_path / "icm" / "metrics.json").read_text())
    assert metrics["examples"] == 8 and metrics["inconsistencies"] == 0
    assert metrics["labeled_in_search"] == 1
    preferences = rows(tmp_path / "icm" / "preferences.jsonl")
    labels = {row["text"]: row["label"] for row in rows(tmp_path / "icm" / "labels.jsonl")}
    assert len(preferences) == 4
    for row in preferences:
        [chosen], [rejected] = row["chosen"], row["rejected"]
        assert {chosen["content"], rejected["content"]} in map(set, RESPONSES.values())
        assert row["log_odds"] > 0
        told = f"Review: {chosen['content']}\nSentiment:"
        assert labels[told] is True  # one of each pair is, and the one preferred
    run(
        *("recipes/reward.py", "--config", "recipes/configs/smollm2/reward.yaml"),
        *("--preferences", tmp_path / "icm" / "preferences.jsonl", "--eval_fraction", 0),
        *("--output_dir", tmp_path / "reward"),
    )
    assert (tmp_path / "reward" / "model.safetensors").exists()
    run(
        *("recipes/ppo.py", "--config", "recipes/configs/smollm2/ppo.yaml"),
        *("--rewards", tmp_path / "reward", "--prompts", tmp_path / "responses.jsonl"),
        *("--total_episodes", 4, "--gradient_accumulation_steps", 1, "--num_mini_batches", 1),
        *("--num_ppo_epochs", 1, "--response_length", 8, "--output_dir", tmp_path / "ppo"),
    )
    [update] = rows(tmp_path / "ppo" / "history.jsonl")
    assert update["episode"] == 4 and update["objective/kl"] == 0
    assert (tmp_path / "ppo" / "policy" / "model.safetensors").exists()
