import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from icm_rl.rl import arithmetic


def batch():
    generator = torch.Generator().manual_seed(1)
    rewards, values = (torch.randn(3, 6, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    return rewards, values, mask


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
    to_go = (rewards * mask).flip(1).cumsum(1).flip(1)
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


def test_whiten_in_parts_equals_whiten_of_the_whole():
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(4, 5, generator=generator) * 3 + 2
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]])
    barrier, sums = threading.Barrier(2), {}

    def total(part):
        def reduce(tensor):
            sums[part] = tensor
            barrier.wait()
            whole = sums[0] + sums[1]
            barrier.wait()
            return whole

        return reduce

    with ThreadPoolExecutor(2) as executor:
        found = list(
            executor.map(
                lambda part: arithmetic.whiten(
                    values[2 * part :][:2], mask[2 * part :][:2], total=total(part)
                ),
                range(2),
            )
        )
    assert torch.allclose(torch.cat(found), arithmetic.whiten(values, mask), atol=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimates_average_to_the_kl(estimator):
    generator = torch.Generator().manual_seed(2)
    p, q = (torch.randn(5, generator=generator).log_softmax(0) for _ in range(2))
    exact = (p.exp() * (p - q)).sum()
    estimate = (p.exp() * arithmetic.kl_estimate(p, q, estimator)).sum()
    assert estimate == pytest.approx(float(exact), abs=1e-6)
    if estimator == "k3":
        assert (arithmetic.kl_estimate(p, q, estimator) >= 0).all()


@pytest.mark.parametrize(("estimator", "expected"), [("k1", 0.0), ("k2", 1.0), ("k3", None)])
def test_gradients_of_kl_estimates(estimator, expected):
    """On average k2's gradient is the KL's and k1's is none; k3's is that of KL(q ‖ p)."""
    generator = torch.Generator().manual_seed(4)
    logits, q = (torch.randn(5, generator=generator, dtype=torch.double) for _ in range(2))
    logits.requires_grad_()
    q = q.log_softmax(0)

    def gradient(loss):
        return torch.autograd.grad(loss, logits)[0]

    p = logits.log_softmax(0)
    found = gradient((p.exp().detach() * arithmetic.kl_estimate(p, q, estimator)).sum())
    p = logits.log_softmax(0)
    if expected is None:
        right = gradient((q.exp() * (q - p)).sum())
    else:
        right = expected * gradient((p.exp() * (p - q)).sum())
    assert torch.allclose(found, right, atol=1e-9)


def test_kl_coefficient_adapts_to_the_target():
    # the error is clipped to 0.2; 500 of 10,000 episodes
    assert arithmetic.adapted_kl_coef(0.1, 6.6, 6.0, 10_000, 500) == pytest.approx(0.1005)
    assert arithmetic.adapted_kl_coef(0.1, 60.0, 6.0, 10_000, 500) == pytest.approx(0.101)
    assert arithmetic.adapted_kl_coef(0.1, 0.0, 6.0, 10_000, 500) == pytest.approx(0.099)
    assert arithmetic.adapted_kl_coef(0.1, 6.0, 6.0, 10_000, 500) == 0.1


def test_running_moments_equal_those_of_all_numbers():
    generator = torch.Generator().manual_seed(5)
    parts = [torch.randn(size, generator=generator) * 4 - 7 for size in (3, 8, 1, 5)]
    moments = arithmetic.RunningMoments()
    for part in parts:
        moments.update(part)
    every = torch.cat(parts).double()
    assert moments.count == 17
    assert moments.mean == pytest.approx(every.mean().item())
    assert moments.std == pytest.approx(every.std(correction=0).item())
    same = arithmetic.RunningMoments()
    same.update(torch.ones(4))
    assert same.std == 1.0


def test_policy_loss_clips_only_the_side_that_the_advantage_gains_on():
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    loss, clipped = arithmetic.policy_loss(ratio.log(), torch.zeros(1, 4), advantages, 0.2)
    assert loss[0].tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert clipped[0].tolist() == [True, False, False, True]


def test_value_loss_takes_the_worse_of_clipped_and_unclipped():
    values = torch.tensor([[1.0, 0.1]])
    old = torch.tensor([[0.0, 0.0]])
    returns = torch.tensor([[1.0, 1.0]])
    loss, clipped = arithmetic.value_loss(values, old, returns, 0.2)
    # (0.2 - 1)^2 = 0.64 beats 0; (0.1 - 1)^2 = 0.81 is not clipped
    assert loss[0].tolist() == pytest.approx([0.32, 0.405])
    assert clipped[0].tolist() == [True, False]
