import copy
import random
from dataclasses import replace

import pytest
import torch

from icm_rl.engines import LocalEngine, Request
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.finetune import BaseModel, FinetuneConfig, fine_tune
from icm_rl.icm.methods.folds import split_into_folds
from icm_rl.icm.objective import all_log_odds
from icm_rl.models import load_causal_lm
from icm_rl.tasks import TASKS, Example
from icm_rl.tasks.relations import asymmetric

EXCLUSIVE = TASKS["truthfulqa"]


def claims(*keys) -> list[Example]:
    return [Example(f"{k}", "", "g", key) for k, key in enumerate(keys)]


def fixed(task, keys, odds) -> list[bool]:
    """The labels by name, from each example's log P(True) − log P(False)."""
    examples = claims(*keys)
    log_probs = {e.id: (value, 0.0) for e, value in zip(examples, odds, strict=True)}
    return list(consistency_fix_maxprob(examples, task, all_log_odds(log_probs)).values())


@pytest.mark.parametrize(
    ("keys", "odds", "labels"),
    [
        ("ab", (0.4, 0.3), [True, False]),
        ("ab", (-0.1, -0.2), [False, False]),
        ("abc", (-3.0, 0.4, 0.5), [False, False, True]),  # b would be True by Algorithm 4
        ("aab", (0.1, -0.4, 0.2), [False, False, True]),
        ("aab", (2.0, -0.4, 0.2), [True, True, False]),
    ],
)
def test_the_most_confident_label_decides_on_its_group(keys, odds, labels):
    assert fixed(EXCLUSIVE, keys, odds) == labels


def test_of_the_two_orders_of_a_pair_the_more_confident_decides():
    task = replace(EXCLUSIVE, consistent=asymmetric)
    assert fixed(task, "ab", (0.3, 0.5)) == [False, True]
    assert fixed(task, "ab", (-0.6, -0.5)) == [False, True]


def test_groups_do_not_decide_on_each_other():
    examples = [Example("0", "", "g", "a"), Example("1", "", "h", "b")]
    found = consistency_fix_maxprob(
        examples, EXCLUSIVE, all_log_odds({"0": (1.0, 0.0), "1": (2.0, 0.0)})
    )
    assert found == {"0": True, "1": True}


def test_folds_keep_groups_whole(preferences):
    folds = split_into_folds(preferences.examples[:50], 4, random.Random(1))
    assert sorted(e.id for fold in folds for e in fold) == sorted(
        e.id for e in preferences.examples[:50]
    )
    assert max(map(len, folds)) - min(map(len, folds)) <= 2
    homes = [{e.group for e in fold} for fold in folds]
    assert sum(map(len, homes)) == 25


BASE = BaseModel("miniature", "float32")
TEXTS = [(f"The {name} is", " False") for name in ("zeb", "lake", "mill", "barn")]


def odds(engine) -> list[float]:
    """The log-odds of True, for each text, by an engine's model."""
    answers = engine.label_log_probs([Request((), text) for text, _ in TEXTS])
    return [true - false for true, false in answers]


@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_model_learns_labels_and_leaves_the_first_one_alone(model, tokenizer, lora_r, tmp_path):
    config = FinetuneConfig(3e-3, num_train_epochs=8, train_batch_size=2, lora_r=lora_r)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    first = odds(engine)
    found = []
    for folder in (tmp_path / "learned", tmp_path / "again"):
        fine_tune(BASE, TEXTS, config, "0", folder)
        found.append(odds(engine.with_weights(folder)))
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(after < of_first - 1 for of_first, after in zip(first, found[0], strict=True))
    assert found[0] == found[1]
    assert odds(engine) == first


@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_model_of_half_the_precision_learns_as_much(model, tokenizer, lora_r, tmp_path):
    """At the paper's learning rate a step is smaller than the next bfloat16."""
    rate, epochs = (1e-3, 8) if lora_r else (2e-5, 40)
    config = FinetuneConfig(rate, epochs, train_batch_size=2, lora_r=lora_r)
    moves = []
    for dtype in ("float32", "bfloat16"):
        begun = copy.deepcopy(model).to(getattr(torch, dtype))
        engine, folder = LocalEngine(begun, tokenizer, (" True", " False")), tmp_path / dtype
        fine_tune(BaseModel("miniature", dtype), TEXTS, config, "0", folder)
        learned = engine.with_weights(folder)
        assert learned.model.dtype == begun.dtype
        moves.append(sum(odds(engine)) - sum(odds(learned)))
    assert moves[0] > 0.4
    assert moves[1] == pytest.approx(moves[0], rel=0.2)


@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_training_may_begin_with_what_another_has_learned(engine, lora_r, tmp_path):
    """Where nothing more is learned, the model is the one that it begins with."""
    moved, still = (FinetuneConfig(rate, 2, 4, lora_r=lora_r) for rate in (1e-3, 1e-12))
    fine_tune(BASE, TEXTS, moved, "0", tmp_path / "first")
    fine_tune(BASE, TEXTS, still, "1", tmp_path / "next", begun=tmp_path / "first")
    first, following = (odds(engine.with_weights(tmp_path / name)) for name in ("first", "next"))
    assert following == pytest.approx(first, abs=1e-5)
    assert first != pytest.approx(odds(engine), abs=1e-2)


def test_the_loss_is_that_of_the_label_after_its_text(model, tokenizer, tmp_path):
    """One step of plain gradient descent by hand: AdamW's first step has the gradient's sign."""
    texts = [("The zeb is", " False"), ("The lake in the valley is", " True")]
    fine_tune(BASE, texts, FinetuneConfig(1e-4, 1, 2), "0", tmp_path / "learned")
    learned = load_causal_lm(str(tmp_path / "learned"), "float32")
    loss = 0.0
    for text, label in texts:
        ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
        log_probs = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        loss = loss - log_probs[tokenizer.encode(label, add_special_tokens=False)[0]]
    model.zero_grad()
    loss.backward()
    for (name, old), new in zip(model.named_parameters(), learned.parameters(), strict=True):
        clear = old.grad.abs() > 1e-4
        assert torch.equal((old - new)[clear].sign(), old.grad[clear].sign()), name
    model.zero_grad()
