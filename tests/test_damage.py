"""Files that were cut or overwritten are named, with what to do."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from icm_rl.errors import InputError
from icm_rl.files import append_jsonl, check_whole, read_appended, read_json, write_json
from icm_rl.models import load_causal_lm, resolve
from tests.conftest import kill_when, run


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "optimizer.pt"])
def test_a_checkpoint_that_was_cut_is_named(name, tmp_path):
    save_file({"weight": torch.ones(64)}, tmp_path / "model.safetensors")
    write_json(tmp_path / "state.json", {"update": 3})
    torch.save({"step": torch.ones(64)}, tmp_path / "optimizer.pt")
    check_whole(tmp_path)
    cut(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: damaged; remove the folder {tmp_path}"):
        check_whole(tmp_path)


def test_a_line_that_was_overwritten_is_named(tmp_path):
    file = tmp_path / "history.jsonl"
    append_jsonl(file, [{"update": k} for k in range(3)])
    cut(file)
    assert read_appended(file) == [{"update": 0}]
    file.write_bytes(b'{"update": 0}\n{"up\xffate": 1}\n{"update": 2}\n')
    with pytest.raises(InputError, match=r"history.jsonl, line 2: damaged; remove the line"):
        read_appended(file)


def test_json_that_is_no_text_is_named(tmp_path):
    (tmp_path / "settings.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match=r"settings.json, byte 7: not UTF-8; the file is damaged"):
        read_json(tmp_path / "settings.json")


def test_a_model_that_was_cut_is_named(tmp_path):
    shutil.copytree(resolve("miniature"), tmp_path / "model")
    cut(tmp_path / "model" / "model.safetensors")
    with pytest.raises(InputError, match=r"model: no model could be loaded \(.*incomplete"):
        load_causal_lm(str(tmp_path / "model"))


@pytest.mark.process
def test_ppo_says_what_of_its_folder_is_damaged_and_what_is_lost(data, reward_model, tmp_path):
    out = tmp_path / "out"
    flags = (
        *("recipes/ppo.py", "--config", "recipes/configs/miniature/ppo.yaml"),
        *("--rewards", reward_model, "--prompts", data / "prompts.jsonl"),
        *("--total_episodes", 96, "--per_device_train_batch_size", 16, "--save_steps", 1),
        *("--output_dir", out),
    )
    kill_when(flags, (out / "checkpoint-2" / "state.json").exists)
    weights = out / "checkpoint-2" / "model.safetensors"
    whole = weights.read_bytes()
    cut(weights)
    done = run(*flags, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {weights}: damaged; remove the folder {weights.parent}, and what it held is made "
        "again\n"
    )
    weights.write_bytes(whole)
    cut(out / "history.jsonl")
    said = run(*flags).stderr
    assert (
        f"warning: {out / 'history.jsonl'}: 1 of 2 updates are in it; the other lines are" in said
    )
