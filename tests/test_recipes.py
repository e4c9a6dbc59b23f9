"""The recipes after ICM as a user runs them: as processes, killed and continued."""

import copy
import json

import pytest

from tests.conftest import LAUNCH, SHARED, kill_when, rows, run


def test_reward_model_by_lora_of_a_model_without_chat_template_scores_as_one_model(
    tmp_path, gold_preferences, model, tokenizer
):
    from icm_rl.reward.scorer import RewardScorer, conversation

    model.save_pretrained(tmp_path / "base")
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "base")
    run(
        *(*LAUNCH, "recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml"),
        *("--model_name_or_path", tmp_path / "base", "--output_dir", tmp_path / "lora"),
        *("--preferences", gold_preferences),
        *("--num_train_epochs", 1, "--use_peft", "--lora_r", 4),
    )
    assert (tmp_path / "lora" / "adapter_model.safetensors").exists()
    scorer = RewardScorer(str(tmp_path / "lora"))
    asked = scorer.tokenizer.apply_chat_template(conversation("Is it?", "Yes."), tokenize=False)
    claim = "Question: Is it?\nClaim: Yes.\nI think this claim is"
    assert asked == tokenizer.bos_token + claim
    scores = scorer.score(
        [conversation("What is 1 + 2?", answer) for answer in ("1 + 2 = 3.", "1 + 2 = 4.")]
    )
    assert len(set(scores)) == 2


def test_ppo_killed_and_continued_takes_the_same_path(data, reward_model, tmp_path):
    flags = (
        *(*LAUNCH, "recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--reward_model", reward_model, "--prompts", data / "prompts.jsonl"),
        *("--total_episodes", 192, "--per_device_train_batch_size", 16, "--save_steps", 2),
    )
    run(*flags, "--output_dir", tmp_path / "whole")
    killed = tmp_path / "killed"
    kill_when((*flags, "--output_dir", killed), lambda: any(killed.glob("checkpoint-*/state.json")))
    run(*flags, "--output_dir", killed)
    assert rows(killed / "history.jsonl") == rows(tmp_path / "whole" / "history.jsonl")
    policies = [
        (f / "policy" / "model.safetensors").read_bytes() for f in (killed, tmp_path / "whole")
    ]
    assert policies[0] == policies[1]


def test_policy_evaluation_of_a_policy_against_itself_is_a_draw(data, reward_model, tmp_path):
    run(
        *("eval/policy.py", "--config", "recipes/configs/miniature/policy.yaml"),
        *("--model", "miniature", "--reference_reward_model", reward_model),
        *("--benchmark", data / "benchmark.jsonl", "--output_dir", tmp_path / "out"),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["before"] == metrics["after"]
    assert metrics["win_rate"]["mean"] == 0.5


@pytest.mark.skipif(not SHARED.exists(), reason="RewardBench's rows are not beside the project")
def test_rewardbench_on_its_own_rows(reward_model, tmp_path):
    run(
        *("eval/rewardbench.py", "--reward_model", reward_model),
        *("--benchmark", SHARED / "reward_bench_llmbar.jsonl", "--output_dir", tmp_path / "out"),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    scores = rows(tmp_path / "out" / "scores.jsonl")
    assert metrics["rows"] == len(scores) == 419
    counts = {"llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92}
    counts |= {"llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46}
    right = sum(row["chosen"] > row["rejected"] for row in scores)
    # the official weights are the counts of these rows, so the section is the plain share
    assert set(metrics["subsets"]) == set(counts)
    assert metrics["sections"]["Chat Hard"] == pytest.approx(100 * right / 419)
