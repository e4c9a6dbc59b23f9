import copy
import random
from dataclasses import replace

import pytest
import torch

from icm_rl.engines import LocalEngine, Request
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.finetune import FinetuneConfig, fine_tune, fine_tuned
from icm_rl.icm.methods.folds import split_into_folds
from icm_rl.icm.objective import all_log_odds
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


def finetuned(base, tokenizer, texts, config, folder):
    fine_tune(base, tokenizer, texts, config, "0", folder)
    return fine_tuned(base, folder)


@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_model_learns_labels_and_leaves_the_first_one_alone(model, tokenizer, lora_r, tmp_path):
    texts = [(f"The {name} is", " False") for name in ("zeb", "lake", "mill", "barn")]
    config = FinetuneConfig(3e-3, num_train_epochs=8, train_batch_size=2, lora_r=lora_r)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    learned = finetuned(model, tokenizer, texts, config, tmp_path / "learned")
    again = finetuned(model, tokenizer, texts, config, tmp_path / "again")
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    requests = [Request((), text) for text, _ in texts]
    engine = LocalEngine(model, tokenizer, (" True", " False"))
    answers = [engine.with_model(m).label_log_probs(requests) for m in (model, learned, again)]
    odds = [[true - false for true, false in of_model] for of_model in answers]
    assert all(after < first - 1 for first, after in zip(*odds[:2], strict=True))
    assert odds[1] == odds[2]


@pytest.mark.parametrize("lora_r", [0, 4])
def test_a_model_of_half_the_precision_learns_as_much(model, tokenizer, lora_r, tmp_path):
    """At the paper's learning rate a step is smaller than the next bfloat16."""
    texts = [(f"The {name} is", " False") for name in ("zeb", "lake", "mill", "barn")]
    rate, epochs = (1e-3, 8) if lora_r else (2e-5, 40)
    config = FinetuneConfig(rate, epochs, train_batch_size=2, lora_r=lora_r)
    requests = [Request((), text) for text, _ in texts]
    moves = []
    for begun in (model, copy.deepcopy(model).bfloat16()):
        learned = finetuned(begun, tokenizer, texts, config, tmp_path / str(begun.dtype))
        assert learned.dtype == begun.dtype
        engine = LocalEngine(begun, tokenizer, (" True", " False"))
        answers = [engine.with_model(m).label_log_probs(requests) for m in (begun, learned)]
        before, after = (sum(true - false for true, false in of_model) for of_model in answers)
        moves.append(before - after)
    assert moves[0] > 0.4
    assert moves[1] == pytest.approx(moves[0], rel=0.2)


def test_the_loss_is_that_of_the_label_after_its_text(model, tokenizer, tmp_path):
    """One step of plain gradient descent by hand: AdamW's first step has the gradient's sign."""
    texts = [("The zeb is", " False"), ("The lake in the valley is", " True")]
    learned = finetuned(model, tokenizer, texts, FinetuneConfig(1e-4, 1, 2), tmp_path / "learned")
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
