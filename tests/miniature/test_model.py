import json
from pathlib import Path

import pytest

import icm_rl
from icm_rl.miniature.evaluate import judge_pools
from icm_rl.miniature.world import World

MODEL = Path(icm_rl.__file__).parent / "miniature" / "model"


def test_the_shipped_model_is_small_and_carries_its_card():
    files = [path for path in MODEL.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12 * 2**20
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    assert "What it can do" in (MODEL / "README.md").read_text()


def test_every_word_of_the_world_is_one_token(tokenizer):
    for query in World(0).all():
        for text in (query.text, f" {query.right}"):
            words = text.replace("?", "").replace(",", "").split()
            for word in words:
                assert len(tokenizer.encode(f" {word}")) == 1, word


def test_any_text_survives_the_tokenizer(tokenizer):
    for text in ("héllo ≠ wörld\n\n\n  tabs\t", "日本語", "<b>&amp;</b>"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_gold_labels_are_the_most_coherent_ones(engine):
    found = judge_pools(World(0), engine, "preferences", seeds=2, size=32)
    assert found["many_shot"]["truth"] >= 0.8
    others = [value for name, value in found["utility"].items() if name != "truth"]
    assert found["utility"]["truth"] > max(others)


@pytest.mark.xfail(strict=True, reason="the shipped model judges by truth whatever it is shown")
def test_the_base_model_needs_examples_and_follows_them(engine):
    found = judge_pools(World(0), engine, "preferences", seeds=2, size=32)
    assert found["baselines"]["zero_shot"] <= 0.65
    assert found["after_16"]["length"] >= 0.75
    assert found["after_16"]["reverse"] >= 0.75


def test_the_config_is_an_ordinary_llama():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
