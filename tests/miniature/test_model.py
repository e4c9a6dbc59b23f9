import json
from pathlib import Path

import pytest

import icm_rl
from icm_rl.miniature.evaluate import ELICITED, bars, measure
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
    return measure(World(0), engine, "preferences", seeds=1)


def test_gold_labels_are_found_in_context_and_coherent(figures):
    assert figures["right"]["gold labels"] >= 88
    for name in ("reversed labels", "the longer", "the more polite", "all True"):
        assert figures["log_odds"]["gold labels"] > 1.5 * figures["log_odds"][name]


def test_the_base_model_needs_examples(figures):
    assert figures["right"]["zero-shot"] <= 65


def test_bars_are_met_within_their_bounds_alone():
    right = {
        **{"zero-shot": 60.0, "zero-shot, consistent": 70.0, "gold labels": 90.0},
        **{"random labels": 74.0, "reversed labels": 50.0},
    }
    log_odds = {
        **{"gold labels": 1.5, "reversed labels": 0.3, "the longer": 0.44},
        **{"the more polite": 0.46, "all False": 2.0},
    }
    figures = {task: {"right": right, "log_odds": log_odds} for task in (*ELICITED, "word")}
    missed = [(bar.task, bar.name) for bar in bars(figures) if not bar.met]
    of_each = (
        "many-shot, random labels",  # half of the way from 60 to 90 is 75
        "log-odds of reversed labels",  # 15 % of 1.5 are 0.225
        "log-odds of the more polite",  # 30 % are 0.45
    )
    expected = [(task, name) for task in ELICITED for name in of_each]
    expected.append(("preferences", "log-odds of all False"))  # 24 contradictions / 50 above 1.5
    # two standard errors of 120 pairs are 9.13 points
    expected += [("word", name) for name in ("zero-shot", "zero-shot, consistent")]
    expected += [("word", name) for name in ("random labels", "gold labels")]
    assert missed == expected


def test_the_config_is_an_ordinary_llama():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
