import pytest

from icm_rl.reward.scorer import RewardScorer, conversation
from icm_rl.rewardbench.benchmark import BenchmarkRow
from icm_rl.rewardbench.policy import compare_policies


def test_win_rate_and_means_by_hand(reward_model):
    rows = [
        BenchmarkRow(str(k), subset, f"What is {k} + 1?", "", "")
        for k, subset in enumerate(["alpacaeval-easy", "alpacaeval-easy", "math-prm"], 1)
    ]
    before, after = ["1 + 1 = 2.", "2 + 1 = 4.", "same."], ["1 + 1 = 3.", "2 + 1 = 3.", "same."]
    scorer = RewardScorer.load(str(reward_model))
    metrics, answers = compare_policies(
        rows, before, after, scorer, lambda prompt, answer: answer in ("1 + 1 = 2.", "2 + 1 = 3.")
    )
    rewards = [
        scorer.score([conversation(r.prompt, a) for r, a in zip(rows, side, strict=True)])
        for side in (before, after)
    ]
    wins = [float(b > a) for a, b in zip(*rewards, strict=True)]
    wins[2] = 0.5
    assert metrics["win_rate"]["mean"] == pytest.approx(sum(wins) / 3)
    assert metrics["win_rate"]["sections"]["Reasoning"] == 0.5
    assert metrics["before"]["gold_rate"]["mean"] == pytest.approx(1 / 3)
    assert metrics["after"]["gold_rate"]["sections"] == {"Chat": 0.5, "Reasoning": 0.0}
    assert metrics["after"]["reference_reward"]["mean"] == pytest.approx(sum(rewards[1]) / 3)
    assert [answer["accepted_before"] for answer in answers] == [True, False, False]
