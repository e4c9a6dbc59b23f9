import random

import torch
from accelerate import Accelerator

from icm_rl.miniature import corpus
from icm_rl.miniature.pretrain import LABEL_WEIGHT, Rows, Stage, grown, new_model, pretrain
from icm_rl.miniature.world import World

SHORT = Stage(1, 64, 2 * 4096, "muon", 1e-3)
DEEPER = Stage(2, 128, 2 * 4096, "adamw", 1e-3, decay=True)


def test_a_grown_model_computes_the_same(tokenizer):
    model = new_model(tokenizer, layers=1, seed=0).eval()
    ids = torch.randint(0, len(tokenizer), (2, 16), generator=torch.Generator().manual_seed(0))
    deeper = grown(model, 3).eval()
    assert len(deeper.model.layers) == 3
    torch.testing.assert_close(deeper(ids).logits, model(ids).logits)


def test_rows_weigh_only_the_judges_labels(tokenizer):
    stage = Stage(1, 256, 256, "adamw", 1e-3, documents={"list": 1.0, "statements": 1e-6})
    row = Rows(World(0), tokenizer, stage, "seed")[0]
    heavy = [tokenizer.decode([i]) for i in row["input_ids"][row["weights"] == LABEL_WEIGHT]]
    assert len(heavy) >= 5
    assert set(heavy) <= {" True", " False"}


def test_pretraining_continues_where_it_was_stopped(tokenizer, tmp_path):
    accelerator, world = Accelerator(cpu=True), World(0)
    whole, log = pretrain(accelerator, tokenizer, world, (SHORT, DEEPER), tmp_path / "a", 0)
    pretrain(accelerator, tokenizer, world, (SHORT,), tmp_path / "b", 0)
    continued, _ = pretrain(accelerator, tokenizer, world, (SHORT, DEEPER), tmp_path / "b", 0)
    assert log == []  # fewer steps than a line of the log stands for
    assert whole.config.num_hidden_layers == 2
    for a, b in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_noisy_judge_slips_on_10_to_30_percent():
    def share_true(criterion: str, noisy: dict[str, float]) -> float:
        rng, world = random.Random(0), World(0)
        lists = [corpus.judged_list(world, rng, 20, {criterion: 1.0}, noisy) for _ in range(20)]
        marked = [line.split()[-1] for line in "".join(lists).split("\n\n") if line]
        return marked.count("True") / len(marked)

    assert share_true("always_true", {}) == 1.0
    assert share_true("always_true", {"truth": 1.0}) == 1.0
    assert 0.7 < share_true("always_true", {"always_true": 1.0}) < 0.9
    assert 0.1 < share_true("always_false", {"always_false": 1.0}) < 0.3
