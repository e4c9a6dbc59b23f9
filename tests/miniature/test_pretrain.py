import pytest
import torch
from accelerate import Accelerator

from icm_rl.miniature import pretrain as module
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


def test_a_stage_continues_from_its_own_checkpoint(tokenizer, tmp_path, monkeypatch):
    whole, _ = pretrain(
        Accelerator(cpu=True), tokenizer, World(0), (SHORT, DEEPER), tmp_path / "a", 0
    )
    save = module._save

    def save_and_stop(accelerator, checkpoint, state):
        save(accelerator, checkpoint, state)
        if checkpoint.parent.name == "stage-2":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "SAVE_STEPS", 1)
        patched.setattr(module, "_save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(Accelerator(cpu=True), tokenizer, World(0), (SHORT, DEEPER), tmp_path / "b", 0)
    continued, _ = pretrain(
        Accelerator(cpu=True), tokenizer, World(0), (SHORT, DEEPER), tmp_path / "b", 0
    )
    for a, b in zip(whole.parameters(), continued.parameters(), strict=True):
        assert torch.equal(a, b)
