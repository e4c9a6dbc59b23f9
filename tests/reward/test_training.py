import json
import math

import pytest
import torch
from datasets import Dataset

from icm_rl.errors import InputError
from icm_rl.reward.training import (
    RewardArguments,
    calibration,
    load_preferences,
    select_preferences,
)
from icm_rl.settings import check_bounds
from tests.conftest import run


def preferences(tmp_path, *beside):
    file = tmp_path / "pairs.jsonl"
    pair = {"prompt": "p", "chosen": "a", "rejected": "b"}
    file.write_text("".join(json.dumps(pair | more) + "\n" for more in beside))
    return str(file)


def test_calibration_by_hand():
    def logit(p):
        return math.log(p / (1 - p))

    # two in the bin 0.5–0.6 (one right), two in 0.7–0.8 (both right), one in 0.9–1.0 (wrong)
    differences = [logit(0.55), -logit(0.57), logit(0.72), logit(0.76), -logit(0.98)]
    found = calibration(differences, bins=5)
    assert [(b["pairs"], b["accuracy"]) for b in found["eval_reliability"]] == [
        (2, 0.5),
        (2, 1.0),
        (1, 0.0),
    ]
    assert [b["confidence"] for b in found["eval_reliability"]] == pytest.approx([0.56, 0.74, 0.98])
    error = (2 * (0.56 - 0.5) + 2 * (1 - 0.74) + 0.98) / 5
    assert found["eval_calibration_error"] == pytest.approx(error)
    assert found["eval_accuracy"] == pytest.approx(0.6)
    assert calibration([40.0])["eval_calibration_error"] == pytest.approx(0)


def test_the_least_sure_training_pairs_are_dropped(tmp_path):
    path = preferences(tmp_path, *({"log_odds": odds} for odds in (3, -1, 2, 0, 5, 4, 1, 9)))
    arguments = RewardArguments(path, eval_fraction=0, drop_least_sure=0.25)
    train, held_out = select_preferences(load_preferences(arguments), arguments, seed=0)
    assert held_out is None
    assert train["log_odds"] == [3, 2, 5, 4, 1, 9]
    arguments = RewardArguments(path, eval_fraction=0.25, drop_least_sure=0.5, soft_targets=True)
    train, held_out = select_preferences(load_preferences(arguments), arguments, seed=0)
    assert len(train) == 3 and len(held_out) == 2
    assert min(train["log_odds"]) >= sorted(set(range(-1, 10)) & {*train["log_odds"]})[0]
    for row in [*train, *held_out]:
        assert row["margin"] == pytest.approx(1 / (1 + math.exp(-row["log_odds"])))


def test_soft_targets_give_the_loss_of_their_definition(tmp_path, gold_preferences):
    from trl import RewardConfig

    from icm_rl.models import load_tokenizer, resolve
    from icm_rl.reward.training import SoftRewardTrainer

    tokenizer = load_tokenizer("miniature")
    arguments = RewardArguments(str(gold_preferences), eval_fraction=0)
    rows = [
        row | {"margin": share}
        for row, share in zip(load_preferences(arguments), (1.0, 0.5, 0.1, 0.8), strict=False)
    ]
    settings = RewardConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none")
    trainer = SoftRewardTrainer(
        resolve("miniature"),
        settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    inputs = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    targets = inputs["margin"].clone()
    loss, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    rewards = outputs.logits[:, 0]
    expected = 0.0
    for pair, target in enumerate(targets):
        difference = rewards[pair] - rewards[len(targets) + pair]
        probability = torch.sigmoid(difference)
        expected -= target * probability.log() + (1 - target) * (1 - probability).log()
    assert sorted(targets.tolist()) == pytest.approx([0.1, 0.5, 0.8, 1.0])
    assert loss.item() == pytest.approx(expected.item() / len(targets), abs=1e-5)


@pytest.mark.parametrize(
    ("beside", "flags", "message"),
    [
        ([{"margin": 1}, {}], {}, "line 2: the field 'margin' is missing"),
        ([{"margin": "much"}], {}, "line 1: the field 'margin' must be a number, not 'much'"),
        ([{}], {"soft_targets": True}, "line 1: the field 'log_odds' is missing"),
        ([{}], {"drop_least_sure": 0.1}, "line 1: the field 'log_odds' is missing"),
        ([{"margin": 1}], {"soft_targets": True}, "--soft_targets and the field 'margin' exclude"),
        ([{}], {"eval_fraction": 1}, "--eval_fraction is 1; give less than 1"),
    ],
)
def test_what_is_wrong_with_preferences_is_named(beside, flags, message, tmp_path):
    with pytest.raises(InputError, match=message):
        arguments = RewardArguments(preferences(tmp_path, *beside), **flags)
        check_bounds(arguments)
        load_preferences(arguments)


def test_a_reward_model_of_soft_targets_is_calibrated_and_measured(tmp_path, gold_preferences):
    rows = [json.loads(line) for line in gold_preferences.read_text().splitlines()]
    file = tmp_path / "sure.jsonl"
    file.write_text(
        "".join(json.dumps(row | {"log_odds": k % 5}) + "\n" for k, row in enumerate(rows))
    )
    run(
        *("recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml"),
        *("--preferences", file, "--output_dir", tmp_path / "out", "--num_train_epochs", 1),
        *("--soft_targets", "--drop_least_sure", 0.2, "--eval_fraction", 0.25),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["pairs"], metrics["eval_pairs"]) == (29, 12)
    assert sum(part["pairs"] for part in metrics["eval_reliability"]) == 12
    right = sum(part["pairs"] * part["accuracy"] for part in metrics["eval_reliability"])
    assert right / 12 == pytest.approx(metrics["eval_accuracy"])


def test_pairs_that_are_too_long_are_counted_and_said(tmp_path, gold_preferences):
    rows = [json.loads(line) for line in gold_preferences.read_text().splitlines()[:8]]
    for row in rows[::4]:
        row["chosen"][-1]["content"] = row["rejected"][-1]["content"] + " blue" * 600
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml")
    words += ("--preferences", file, "--eval_fraction", 0)
    none = run(*words, "--max_length", 4, "--output_dir", tmp_path / "none", check=False)
    assert none.returncode == 2
    assert none.stderr.splitlines()[-1].endswith(
        f"{file}: 8 of 8 pairs are longer than --max_length 4 tokens; raise it"
    )
    words += ("--output_dir", tmp_path / "out", "--num_train_epochs", 1)
    some = run(*words, "--max_length", 512)
    assert f"{file}: 2 of 8 pairs are longer than --max_length 512 tokens and are" in some.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["pairs"], metrics["too_long"]) == (6, 2)
