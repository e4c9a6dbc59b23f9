import json
import re
from pathlib import Path

import pytest

import icm_rl
from icm_rl.miniature.evaluate import ELICITED, bars, measure
from icm_rl.miniature.world import World

MODEL = Path(icm_rl.__file__).parent / "miniature" / "model"

MISSED = [
    ("facts", "zero-shot, consistent"),
    ("solutions", "log-odds of the longer"),
    ("preferences", "log-odds of all False"),
]
"""The bars that the shipped model misses."""


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


def test_the_card_says_which_bars_are_met():
    asked = re.findall(
        r"^\| (\w+) \| (.+?) \| .+ \| (met|\*\*missed\*\*) \|$",
        (MODEL / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(asked) == 32
    assert [(task, name) for task, name, met in asked if met != "met"] == MISSED


@pytest.mark.parametrize("task", ELICITED)
def test_the_model_is_the_one_of_the_card(task, engine):
    """One pool of the five, by bounds that one pool can tell."""
    figures = measure(World(0), engine, task, seeds=1)
    right, log_odds = figures["right"], figures["log_odds"]
    assert right["gold labels"] >= (88 if task == "preferences" else 85)
    assert right["random labels"] >= (right["zero-shot"] + right["gold labels"]) / 2
    assert right["reversed labels"] >= 50
    least, most = (40, 65) if task == "preferences" else (50, 75)
    assert least <= right["zero-shot"] <= most
    assert 1.0 <= log_odds["gold labels"] <= 2.5
    for name in ("reversed labels", "the longer", "the more polite", "all True"):
        assert log_odds[name] <= 0.4 * log_odds["gold labels"]
    assert log_odds["all False"] > log_odds["gold labels"]


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
