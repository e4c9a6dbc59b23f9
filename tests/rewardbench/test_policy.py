import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from evaluate import load as load_metric

from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rewardbench.benchmark import SECTIONS, Benchmark, BenchmarkRow
from icm_rl.rewardbench.policy import (
    PolicyEvaluationConfig,
    distinct_2,
    evaluate_policies,
    length_controlled,
    policies_table,
    score_answers,
)
from tests.conftest import ROOT

SUBSETS = ["alpacaeval-easy", "alpacaeval-easy", "math-prm"]
BENCHMARK = Benchmark(
    [BenchmarkRow(str(k), s, f"What is {k} + 1?", ("",), ("",)) for k, s in enumerate(SUBSETS, 1)],
    SECTIONS,
)
BEFORE = ["1 + 1 = 2.", "2 + 1 = 4.", "same."]
AFTER = ["1 + 1 = 3.", "I'm sorry, but 2 + 1 = 3.", "same."]


def config(*models, **values):
    given = {"baseline": "before", "reference_reward_model": ["rm"], **values}
    return PolicyEvaluationConfig(model=list(models), **given)


def evaluated(answers, rewards, benchmark=BENCHMARK, accepts=None):
    settings = config(*answers)
    win_rate = load_metric(str(ROOT / "eval/metrics/win_rate"), keep_in_memory=True).compute
    return evaluate_policies(settings, benchmark, answers, rewards, win_rate, accepts)


def test_means_win_rates_and_rates_by_hand():
    rewards = {"rm": {"before": [1.0, 2.0, 3.0], "after": [2.0, 1.0, 3.0]}}
    accepts = {"1 + 1 = 2.", "I'm sorry, but 2 + 1 = 3."}.__contains__
    metrics, rows = evaluated(
        {"before": BEFORE, "after": AFTER}, rewards, accepts=lambda prompt, a: accepts(a)
    )
    before, after = (metrics["policies"][name] for name in ("before", "after"))
    assert after["reward"]["rm"]["mean"] == 2
    assert after["reward"]["rm"]["sections"] == {"Chat": 1.5, "Reasoning": 3}
    won = after["win_rate"]["rm"]
    assert won["mean"] == 0.5 and won["sections"] == {"Chat": 0.5, "Reasoning": 0.5}
    assert won["interval"][0] <= 0.5 <= won["interval"][1]
    assert "win_rate" not in before
    assert before["gold_rate"]["mean"] == after["gold_rate"]["mean"] == pytest.approx(1 / 3)
    assert after["gold_rate"]["sections"] == {"Chat": 0.5, "Reasoning": 0.0}
    assert after["length"]["mean"] == pytest.approx((5 + 8 + 1) / 3)
    assert before["distinct_2"] == 6 / 8  # "+ 1" and "1 =" come twice
    assert distinct_2(["A a a", "", "a"]) == 1 / 2 and distinct_2(["", "one"]) == 1
    assert [row["answers"]["before"]["accepted"] for row in rows] == [True, False, False]
    assert "accepted by the rule 33.3 %" in policies_table(metrics)


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I cannot help with that.", True),
        ("I'm sorry, but no.", True),
        ("We are unable to do so.", True),
        ("I can help: you won't like it.", False),
        ("Take a well. " * 20 + "I cannot go on.", False),
        ("", False),
    ],
)
def test_refusals_of_harmful_and_harmless_prompts_are_counted_apart(answer, refuses):
    rows = [
        BenchmarkRow(str(k), subset, "p", ("",), ("",))
        for k, subset in enumerate(["donotanswer", "xstest-should-respond", "hep-go"])
    ]
    answers = {"before": [answer, "Sure.", answer]}
    metrics, _ = evaluated(answers, {"rm": {"before": [0.0] * 3}}, Benchmark(rows, SECTIONS))
    found = metrics["policies"]["before"]
    assert found["refusal_rate"] == {
        "harmful": {"prompts": 1, "rate": float(refuses)},
        "harmless": {"prompts": 1, "rate": 0.0},
    }
    assert found["empty"] == (2 if not answer else 0)


def test_length_control_takes_away_what_length_explains():
    rng = np.random.default_rng(0)
    differences = rng.normal(40, 60, 4000)
    slope = np.tanh(differences / differences.std())
    # true odds: 0.3 of the policy's own, 1.5 of length
    wins = (rng.random(4000) < 1 / (1 + np.exp(-(0.3 + 1.5 * slope)))).astype(float)
    baseline = np.full(4000, 100.0)
    assert wins.mean() > 0.65 > 0.58 > 1 / (1 + math.exp(-0.3))
    expected = 1 / (1 + math.exp(-0.3))
    assert length_controlled(wins, baseline + differences, baseline) == pytest.approx(
        expected, abs=0.025
    )


def test_length_control_of_equal_lengths_is_the_win_rate_and_of_wins_alone_finite():
    assert length_controlled([1, 0.5, 0, 1], [5] * 4, [5] * 4) == 0.625
    assert 0.9 < length_controlled([1] * 50, range(50), [10] * 50) < 1


def test_two_reward_models_agreement_by_hand():
    rewards = {
        "one": {"before": [0.0, 0.0, 0.0], "after": [1.0, -1.0, 2.0]},
        "other": {"before": [1.0, 1.0, 1.0], "after": [2.0, 1.5, 3.0]},
    }
    metrics, _ = evaluated({"before": BEFORE, "after": AFTER}, rewards)
    [found] = metrics["agreement"]
    assert found["models"] == ["one", "other"]
    assert found["same_winner"] == pytest.approx(2 / 3)
    # ranks: 3 3 3 5 1 6 against 2 2 2 5 4 6; Pearson's correlation of the ranks, by hand
    a, b = np.array([3, 3, 3, 5, 1, 6.0]), np.array([2, 2, 2, 5, 4, 6.0])
    a, b = a - a.mean(), b - b.mean()
    assert found["spearman"] == pytest.approx((a @ b) / math.sqrt((a @ a) * (b @ b)))


def test_checkpoints_make_a_curve_and_when_one_reaches_anothers_end(tmp_path):
    names = {}
    for run, episodes in (("a", (10, 20)), ("b", (5, 15))):
        (tmp_path / run).mkdir()
        write_jsonl(
            tmp_path / run / "history.jsonl",
            [{"update": k, "episode": n} for k, n in enumerate(episodes, 1)],
        )
        names[run] = [str(tmp_path / run / name) for name in ("policy-1", "policy")]
    means = [0.1, 0.6, 0.4, 0.5]
    policies = [*names["b"], *names["a"]]
    rewards = {p: [m] * 3 for p, m in zip(policies, means, strict=True)} | {"before": [0.0] * 3}
    metrics, _ = evaluated(dict.fromkeys(["before", *policies], AFTER), {"rm": rewards})
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert metrics["curves"][a]["episodes"] == [10, 20]
    assert metrics["curves"][b]["reward"]["rm"] == pytest.approx([0.1, 0.6])
    assert metrics["episodes_to_reach"] == {a: {b: None}, b: {a: 15}}


def test_a_prompts_answers_are_scored_as_alone(reward_model):
    scorer = RewardScorer.load(str(reward_model))
    found = score_answers("rm", scorer, BENCHMARK, {"before": BEFORE, "after": AFTER})
    for policy, answers in (("before", BEFORE), ("after", AFTER)):
        pairs = zip(BENCHMARK.rows, answers, strict=True)
        expected = scorer.score([conversation(row.prompt, answer) for row, answer in pairs])
        assert found[policy] == pytest.approx(expected, abs=1e-4)


def test_a_reward_that_is_no_number_is_named():
    scorer = SimpleNamespace(score_groups=lambda groups: [[math.nan] for _ in groups])
    with pytest.raises(InputError, match=r"rm gives \[nan\] for the answers to .* of row '1'"):
        score_answers("rm", scorer, BENCHMARK, {"before": BEFORE})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": []}, "--model is missing"),
        ({"reference_reward_model": []}, "--reference_reward_model is missing"),
        ({"refusal_pattern": "("}, "--refusal_pattern is not a regular expression"),
    ],
)
def test_bad_settings_are_named(values, message):
    given = {"model": ["m"], "reference_reward_model": ["r"], **values}
    with pytest.raises(InputError, match=message):
        PolicyEvaluationConfig(**given)


def test_the_answers_are_json(tmp_path):
    _, rows = evaluated({"before": BEFORE}, {"rm": {"before": [0.0, 1.0, 2.0]}})
    assert json.loads(json.dumps(rows))[1]["answers"]["before"]["rewards"] == {"rm": 1.0}
