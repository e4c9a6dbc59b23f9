import pytest
import torch

from icm_rl.rl import advantages as arithmetic


def batch():
    generator = torch.Generator().manual_seed(1)
    rewards, values = (torch.randn(3, 6, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    return rewards * mask, values, mask


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.99, 0.0)])
def test_advantages_equal_their_definition_as_a_sum(gamma, lam):
    rewards, values, mask = batch()
    found, returns = arithmetic.generalized_advantages(rewards, values, mask, gamma, lam)
    for row in range(3):
        length = int(mask[row].sum())
        for t in range(length):
            total = 0.0
            for k in range(length - t):
                after = values[row, t + k + 1] if t + k + 1 < length else 0.0
                delta = rewards[row, t + k] + gamma * after - values[row, t + k]
                total += (gamma * lam) ** k * delta
            assert found[row, t] == pytest.approx(float(total), abs=1e-5)
            assert returns[row, t] == pytest.approx(float(total + values[row, t]), abs=1e-5)
        assert not found[row, length:].any()
        assert not returns[row, length:].any()


def test_lambda_one_gives_the_sum_of_rewards_to_go_as_return():
    rewards, values, mask = batch()
    _, returns = arithmetic.generalized_advantages(rewards, values, mask, 1.0, 1.0)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(returns, to_go * mask, atol=1e-5)


def test_whiten_counts_unmasked_entries_only():
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 7.0, -50.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    whitened = arithmetic.whiten(values, mask)
    # 1, 3, 5, 7: mean 4, variance 5
    expected = torch.tensor([[-3.0, -1.0, 0.0], [1.0, 3.0, 0.0]]) / 5**0.5
    assert torch.allclose(whitened, expected, atol=1e-5)
    kept = arithmetic.whiten(values, mask, shift_mean=False)
    assert torch.allclose(kept, (expected + 4) * mask, atol=1e-5)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimates_average_to_the_kl(estimator):
    generator = torch.Generator().manual_seed(2)
    p, q = (torch.randn(5, generator=generator).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum()
    estimate = (p.exp() * arithmetic.kl_estimate(p, q, estimator)).sum()
    assert estimate == pytest.approx(float(exact), abs=1e-6)
    if estimator == "k3":
        assert (arithmetic.kl_estimate(p, q, estimator) >= 0).all()


def test_policy_loss_clips_only_the_side_that_the_advantage_gains_on():
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    loss, share = arithmetic.policy_loss(
        ratio.log(), torch.zeros(1, 4), advantages, torch.ones(1, 4), 0.2
    )
    # 1.2 (clipped), 0.5, -1.5, -0.8 (clipped)
    assert loss == pytest.approx(-(1.2 + 0.5 - 1.5 - 0.8) / 4, abs=1e-6)
    assert share == pytest.approx(0.5)


def test_value_loss_takes_the_worse_of_clipped_and_unclipped():
    values = torch.tensor([[1.0, 0.1, 9.0]])
    old = torch.tensor([[0.0, 0.0, 0.0]])
    returns = torch.tensor([[1.0, 1.0, 0.0]])
    mask = torch.tensor([[1, 1, 0]])
    loss, share = arithmetic.value_loss(values, old, returns, mask, 0.2)
    # (0.2 - 1)^2 = 0.64 beats 0; (0.1 - 1)^2 = 0.81 is not clipped; the third is masked
    assert loss == pytest.approx(0.5 * (0.64 + 0.81) / 2, abs=1e-6)
    assert share == pytest.approx(0.5)
