"""Each trained stage in two CPU processes takes the path of one with the same total batch."""

import json
import math
from itertools import product

import pytest
import torch
from datasets import load_dataset

from icm_rl.models import load_causal_lm
from icm_rl.reward.scorer import RewardScorer
from icm_rl.reward.training import (
    RewardArguments,
    calibration,
    load_preferences,
    select_preferences,
)
from tests.conftest import ROOT, launched, rows, run

pytestmark = pytest.mark.process

CONFIGS = ROOT / "recipes" / "configs"
ACCELERATE = ("--num_processes", 2, "--mixed_precision", "no")
LAUNCHES = {
    "DDP": (*ACCELERATE, "--multi_gpu", "--num_machines", 1, "--dynamo_backend", "no"),
    "zero2": (*ACCELERATE, "--config_file", CONFIGS / "accelerate" / "zero2.yaml"),
    "zero3": (*ACCELERATE, "--config_file", CONFIGS / "accelerate" / "zero3.yaml"),
    "fsdp2": (
        *(*ACCELERATE, "--config_file", CONFIGS / "accelerate" / "fsdp2.yaml"),
        ROOT / "tests" / "fsdp_on_cpu.py",
    ),
}


@pytest.fixture(scope="module")
def stages(data, gold_preferences, reward_model):
    """Each stage's recipe with its flags."""
    rewarded = ("--rewards", reward_model, "--prompts", data / "prompts.jsonl")
    each_step = ("--logging_steps", 1, "--num_train_epochs", 1)
    return {
        "reward": ("--preferences", gold_preferences, "--eval_fraction", 0, *each_step),
        "ppo": (*rewarded, "--total_episodes", 48, "--num_mini_batches", 1),
        "grpo": (*rewarded, "--max_steps", 4, "--num_generations", 4),
    }


def train(stage, flags, launch, passes, folder):
    """Runs a stage whose total batch is 16; returns its history."""
    together = bool(launch)
    # a Trainer's own words for processes that talk over gloo; PPO finds that out
    gloo = ("--use_cpu", "false", "--ddp_backend", "gloo")
    command = (
        *(f"recipes/{stage}.py", "--config", CONFIGS / "miniature" / f"{stage}.yaml"),
        *(*flags, "--per_device_train_batch_size", 16 // passes // (1 + together)),
        *("--gradient_accumulation_steps", passes, "--output_dir", folder),
        *(gloo if together and stage != "ppo" else ()),
    )
    if together:
        launched(launch, 2, *command)
    else:
        run(*command)
    return rows(folder / "history.jsonl")


@pytest.fixture(scope="module")
def alone(stages, tmp_path_factory):
    """Each stage's history in one process, in two passes a step."""
    folder = tmp_path_factory.mktemp("alone")
    return {
        stage: train(stage, stages[stage], (), 2, folder / stage) for stage in ("reward", "ppo")
    }


@pytest.mark.parametrize(
    ("stage", "launch"),
    [("reward", "fsdp2"), ("ppo", "fsdp2"), *product(("reward", "ppo"), ("DDP", "zero2", "zero3"))],
)
def test_two_processes_take_the_path_of_one(stage, launch, stages, alone, tmp_path):
    found = train(stage, stages[stage], LAUNCHES[launch], 1, tmp_path / stage)
    assert len(found) == len(alone[stage]) > 2
    for record, expected in zip(found, alone[stage], strict=True):
        compared = [name for name in expected if name.startswith(("loss", "objective", "train_l"))]
        assert compared
        for name in compared:
            assert record[name] == pytest.approx(expected[name], abs=1e-4), (name, record)


@pytest.mark.parametrize("launch", list(LAUNCHES))
def test_grpo_trains_in_two_processes(launch, stages, model, tmp_path):
    found = train("grpo", stages["grpo"], LAUNCHES[launch], 1, tmp_path / "grpo")
    assert [record["episode"] for record in found] == [16, 32]
    assert all(math.isfinite(record["objective/scores"]) for record in found)
    assert found[0]["objective/kl"] < found[1]["objective/kl"]
    policy = load_causal_lm(str(tmp_path / "grpo" / "policy"), "float32")
    moved = zip(model.parameters(), policy.parameters(), strict=True)
    assert all(not torch.equal(before, after) for before, after in moved)


def fold_flags(data, folder, rank):
    """Of each fold and of all the examples make whole steps, so that none is learned twice."""
    flags = ("--config", CONFIGS / "miniature" / "folds.yaml", "--limit", 16, "--folds", 2)
    files = ("--data", data / "preferences_train.jsonl", "--output_dir", folder)
    return ("recipes/icm.py", *flags, *files, "--lora_r", rank, "--baselines", "false")


@pytest.fixture(scope="module")
def folds_alone(data, tmp_path_factory):
    """By the rank of LoRA's adapters, the labels that folds find in one process."""
    folder, found = tmp_path_factory.mktemp("folds"), {}
    for rank in (0, 4):
        run(*fold_flags(data, folder / f"{rank}", rank))
        found[rank] = rows(folder / f"{rank}" / "labels.jsonl")
    return found


@pytest.mark.parametrize(("launch", "rank"), [("zero3", 0), ("fsdp2", 4)])
def test_folds_learned_in_shards_label_as_those_of_one_process(
    launch, rank, folds_alone, data, tmp_path
):
    saving = ("--gradient_checkpointing", "true", "--gradient_accumulation_steps", 2)
    launched(LAUNCHES[launch], 2, *fold_flags(data, tmp_path / "out", rank), *saving)
    found = rows(tmp_path / "out" / "labels.jsonl")
    for one, other in zip(found, folds_alone[rank], strict=True):
        assert one["label"] == other["label"]
        assert one["log_odds"] == pytest.approx(other["log_odds"], abs=1e-3)


@pytest.mark.parametrize("how", ["full", "LoRA", "zero3", "fsdp2"])
def test_a_reward_model_read_back_scores_as_it_did_before_it_was_saved(
    how, gold_preferences, tmp_path
):
    """Its figures on held-out pairs are made before, by all processes."""
    command = (
        *("recipes/reward.py", "--config", CONFIGS / "miniature" / "reward.yaml"),
        *("--preferences", gold_preferences, "--output_dir", tmp_path / "out"),
        *("--num_train_epochs", 1, "--eval_fraction", 0.55, "--learning_rate", 1e-3),
        *(("--use_peft", "--lora_r", 4) if how == "LoRA" else ()),
    )
    if how in LAUNCHES:
        launched(LAUNCHES[how], 2, *command, "--use_cpu", "false", "--ddp_backend", "gloo")
    else:
        run(*command)
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())
    arguments = RewardArguments(str(gold_preferences), eval_fraction=0.55)
    _, held_out = select_preferences(load_preferences(arguments), arguments, seed=0)
    scorer = RewardScorer.load(str(tmp_path / "out"), "float32")
    chosen, rejected = (
        scorer.score([pair["prompt"] + pair[name] for pair in held_out])
        for name in ("chosen", "rejected")
    )
    assert len(chosen) + len(rejected) > 50
    found = calibration([a - b for a, b in zip(chosen, rejected, strict=True)])
    assert found["eval_calibration_error"] == pytest.approx(
        told["eval_calibration_error"], abs=1e-5
    )
    for mine, its in zip(found["eval_reliability"], told["eval_reliability"], strict=True):
        assert mine == pytest.approx(its, abs=1e-5)


def test_two_processes_evaluate_as_one(few, reward_model, tmp_path):
    read = ("--benchmark", few, "--output_dir")
    policy = ("eval/policy.py", "--config", CONFIGS / "miniature" / "policy.yaml")
    policy += ("--model", "miniature", "--reference_reward_model", reward_model)
    scores = ("eval/rewardbench.py", "--reward_model", reward_model, *read)
    policy = (*policy, *read)
    one, two = tmp_path / "one", tmp_path / "two"
    run(*scores, one / "rm")
    run(*policy, one / "policy", "--answers_dir", one / "answers")
    run("-m", "accelerate.commands.launch", *LAUNCHES["zero3"], *scores, two / "rm")
    launched(LAUNCHES["zero3"], 2, *policy, two / "policy", "--answers_dir", two / "answers")
    one, two = (
        [
            *load_dataset("parquet", data_files=str(folder / "rm" / "scores.parquet"))["train"],
            *(
                {"id": row["id"], "text": answer["text"]} | answer["rewards"]
                for row in rows(folder / "policy" / "answers.jsonl")
                for answer in row["answers"].values()
            ),
        ]
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert len(one) == len(two) == 2 * 21
    for expected, found in zip(one, two, strict=True):
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-5)


def test_a_process_ends_well_while_a_thread_of_gloo_still_drops_its_tensors(tmp_path):
    """The second process holds the interpreter's lock from the exchange's end to its own."""
    (tmp_path / "exchange.py").write_text(
        """
import atexit, sys, time
import torch
from torch import distributed
from icm_rl.runner import run


class Held:
    def __init__(self):
        self.tensors = [torch.zeros(1), torch.zeros(1)]

    def __del__(self, sleep=time.sleep):
        sleep(1)


def keep_the_lock():
    sys.setswitchinterval(1000)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        pass


def main():
    distributed.init_process_group("gloo")
    distributed.barrier()
    if distributed.get_rank() == 0:
        time.sleep(1)
    work = distributed.all_gather(held.tensors, torch.ones(1), async_op=True)
    if distributed.get_rank() == 0:
        work.wait()
        time.sleep(4)
        print("exchanged", held.tensors)
    else:
        atexit.register(keep_the_lock)


held = Held()
run(main)
"""
    )
    done = run("-m", "accelerate.commands.launch", *LAUNCHES["DDP"], tmp_path / "exchange.py")
    assert "exchanged [tensor([1.]), tensor([1.])]" in done.stdout


def test_a_run_ends_while_a_thread_of_gloo_waits_for_the_interpreter(tmp_path):
    """The second process holds the interpreter's lock from an exchange's end to its model's."""
    (tmp_path / "train.py").write_text(
        """
import sys, time
import torch
from accelerate import Accelerator
from torch import distributed
from icm_rl.runner import run
from icm_rl.trainer import end_training


def main():
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(torch.nn.Linear(1, 1))
    distributed.barrier()
    if accelerator.is_main_process:
        time.sleep(1)
    tensors = [torch.zeros(1), torch.zeros(1)]
    work = distributed.all_gather(tensors, torch.ones(1), async_op=True)
    if accelerator.is_main_process:
        work.wait()
        time.sleep(3)
    else:
        del work, tensors
        sys.setswitchinterval(1000)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            pass
    end_training(accelerator, model)
    print("ended")


run(main)
"""
    )
    processes = ("--multi_gpu", "--num_processes", 2, "--mixed_precision", "no")
    said = launched(processes, 2, tmp_path / "train.py", seconds=60)
    assert "".join(said).count("ended") == 2
