"""The recipes after ICM as a user runs them: as processes, killed and continued."""

import copy
import json

import pytest

from tests.conftest import kill_when, rows, run

pytestmark = pytest.mark.process


def test_reward_model_by_lora_of_a_model_without_chat_template_scores_as_one_model(
    tmp_path, gold_preferences, model, tokenizer
):
    from icm_rl.reward.scorer import RewardScorer, conversation

    model.save_pretrained(tmp_path / "base")
    bare = copy.deepcopy(tokenizer)
    bare.chat_template = None
    bare.save_pretrained(tmp_path / "base")
    run(
        *("recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml"),
        *("--model_name_or_path", tmp_path / "base", "--output_dir", tmp_path / "lora"),
        *("--preferences", gold_preferences),
        *("--num_train_epochs", 1, "--use_peft", "--lora_r", 4),
    )
    assert (tmp_path / "lora" / "adapter_model.safetensors").exists()
    scorer = RewardScorer.load(str(tmp_path / "lora"))
    asked = scorer.tokenizer.apply_chat_template(conversation("Is it?", "Yes."), tokenize=False)
    claim = "Question: Is it?\nClaim: Yes.\nI think this claim is"
    assert asked == tokenizer.bos_token + claim
    scores = scorer.score(
        [conversation("What is 1 + 2?", answer) for answer in ("1 + 2 = 3.", "1 + 2 = 4.")]
    )
    assert len(set(scores)) == 2


def history(folder):
    """A run's records without how long each part took."""
    return [
        {name: value for name, value in row.items() if not name.startswith("time/")}
        for row in rows(folder / "history.jsonl")
    ]


def test_ppo_killed_and_continued_takes_the_same_path(data, reward_model, tmp_path):
    flags = (
        *("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--rewards", reward_model, "--prompts", data / "prompts.jsonl"),
        *("--total_episodes", 96, "--per_device_train_batch_size", 16, "--save_steps", 1),
        *("--policy_steps", 1),
    )
    whole = run(*flags, "--output_dir", tmp_path / "whole")
    assert all(line.startswith("PPO ") for line in whole.stderr.splitlines()), whole.stderr
    assert "WARNING" not in whole.stdout
    killed = tmp_path / "killed"
    kill_when((*flags, "--output_dir", killed), lambda: any(killed.glob("checkpoint-*/state.json")))
    run(*flags, "--output_dir", killed)
    assert history(killed) == history(tmp_path / "whole")
    assert rows(killed / "answers.jsonl") == rows(tmp_path / "whole" / "answers.jsonl")
    updates = len(history(killed))
    policies = [
        (folder / name / "model.safetensors").read_bytes()
        for folder in (killed, tmp_path / "whole")
        for name in ("policy", f"policy-{updates}")
    ]
    assert set(policies) == {policies[0]}
    assert len(list(killed.glob("policy-*"))) == updates


def test_grpo_killed_and_continued_takes_the_same_path(data, reward_model, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"prompt": "What is 1 + 2?", "answer": 3}\n' * 4)
    flags = (
        *("recipes/grpo.py", "--config", "recipes/configs/miniature/grpo.yaml"),
        *("--rewards", reward_model, "math_answer=0@held_out", "--prompts", data / "prompts.jsonl"),
        *("--eval_prompts", held_out, "--eval_strategy", "steps", "--eval_steps", 4),
        *("--max_steps", 8, "--save_steps", 3, "--num_generations", 4),
        *("--per_device_train_batch_size", 8, "--per_device_eval_batch_size", 8),
    )
    run(*flags, "--output_dir", tmp_path / "whole")
    killed = tmp_path / "killed"
    # two steps learn from the same answers, which no checkpoint holds: the third step's waits
    saved = killed / "checkpoint-4" / "trainer_state.json"
    kill_when((*flags, "--output_dir", killed), saved.exists)
    run(*flags, "--output_dir", killed)
    records = history(tmp_path / "whole")
    assert history(killed) == records
    evaluated = [record for record in records if "eval/scores" in record]
    assert [record["update"] for record in evaluated] == [4, 8]
    for record in evaluated:
        assert record["eval/scores"] == pytest.approx(record[f"eval/rewards/{reward_model}"])
        assert 0 <= record["eval/rewards/math_answer@held_out"] <= 1


@pytest.mark.parametrize("value_model", ["policy", "reward model"])
def test_ppo_of_lora_adapters_keeps_the_best_policy_and_its_log(
    value_model, data, few, reward_model, tmp_path
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "sums.jsonl").write_text(
        "".join(
            json.dumps({"prompt": f"What is {a} + {b}?", "answer": a + b}) + "\n"
            for a, b in ((2, 3), (4, 1), (3, 3))
        )
    )
    sums, held_out = tmp_path / "sums.jsonl", tmp_path / "held_out.jsonl"
    held_out.write_text(sums.read_text())
    out = tmp_path / "out"
    run(
        *("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--rewards", reward_model, "math_answer=2@sums", "math_answer=0@held_out"),
        *("--prompts", data / "prompts.jsonl", sums, "--eval_prompts", held_out),
        *("--eval_steps", 1, "--kl_penalty", "loss"),
        *("--kl_estimator", "k3", "--kl_target", 3, "--entropy_coef", 0.01, "--reward_scaling"),
        *("--reward_clip", 1, "--length_penalty", 0.01, "--gradient_checkpointing"),
        *("--use_peft", "--lora_r", 4, "--total_episodes", 96, "--generation_batch_size", 8),
        *("--value_model", reward_model if value_model == "reward model" else value_model),
        *("--per_device_train_batch_size", 16, "--report_to", "tensorboard", "--output_dir", out),
    )
    records = history(out)
    assert [record["update"] for record in records] == [1, 2, 3]
    # fresh adapters are the reference, so the first update's KL is none, and its weight falls
    assert records[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
    assert records[1]["objective/kl"] > 0
    assert records[1]["kl_coef"] == pytest.approx(0.05 * (1 - 0.2 * 32 / 10_000))
    assert all(abs(row["score"]) <= 1.33 for row in rows(out / "answers.jsonl"))
    # a weight of 0 only watches
    watched = [record["eval/rewards/math_answer@held_out"] for record in records]
    assert {round(3 * value, 5) for value in watched} <= {0, 1, 2, 3}
    for record in records:
        assert record["eval/scores"] == record[f"eval/rewards/{reward_model}"]
    best = max(records, key=lambda record: record["eval/scores"])
    metrics = json.loads((out / "metrics.json").read_text())
    first = metrics["best"].pop("first")  # before training, which may have been the best
    at = {"update": best["update"], "score": best["eval/scores"]}
    assert metrics["best"] == (at if at["score"] > first else {"update": 0, "score": first})
    for name in ("policy", "best"):
        assert (out / name / "adapter_model.safetensors").exists()
    log = EventAccumulator(str(out / "icm_rl")).Reload()
    assert [event.value for event in log.Scalars("eval/scores")] == pytest.approx(
        [record["eval/scores"] for record in records]
    )
    run(
        *("eval/policy.py", "--config", "recipes/configs/miniature/policy.yaml"),
        *("--model", out / "best", "--reference_reward_model", reward_model),
        *("--benchmark", few, "--output_dir", tmp_path / "eval"),
        *("--answers_dir", tmp_path / "answers"),
    )


def test_ppo_ends_where_the_policy_drifts_too_far(data, reward_model, tmp_path):
    run(
        *("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--rewards", reward_model, "--prompts", data / "prompts.jsonl", "--max_kl", 0.001),
        *("--per_device_train_batch_size", 16, "--kl_estimator", "k2"),
        *("--output_dir", tmp_path / "out"),
    )
    records = history(tmp_path / "out")
    assert 1 < len(records) < 64
    assert [record["objective/kl"] > 0.001 for record in records] == [False] * (
        len(records) - 1
    ) + [True]
    assert (tmp_path / "out" / "policy" / "model.safetensors").exists()
