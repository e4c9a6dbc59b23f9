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


@pytest.fixture(scope="module")
def figures(engine):
    return judge_pools(World(0), engine, "preferences", seeds=2, size=32)


def test_gold_labels_are_found_in_context_and_coherent(figures):
    assert figures["many_shot"]["truth"] >= 0.88
    for criterion in ("reverse", "length", "manners", "always_true"):
        assert figures["utility"]["truth"] > 1.5 * figures["utility"][criterion]


def test_the_base_model_needs_examples_and_follows_them(figures):
    assert figures["baselines"]["zero_shot"] <= 0.65
    assert figures["after_16"]["length"] >= 0.75
    assert figures["after_16"]["reverse"] >= 0.75


def test_the_config_is_an_ordinary_llama():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
