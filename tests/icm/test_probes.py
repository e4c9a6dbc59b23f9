"""Probes of hidden states: their losses and directions, and which end of one is True."""

import pytest
import torch

from icm_rl.errors import InputError
from icm_rl.icm.config import parse_icm
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.probes import (
    CCS,
    PCA,
    Probe,
    RandomProbe,
    ccs_loss,
    contrast_states,
    last_states,
    normalized,
)
from icm_rl.icm.methods.zero_shot import ZeroShot
from icm_rl.tasks import TASKS, configured

TASK = TASKS["preferences"]


@pytest.fixture
def job(preferences, engine, tmp_path) -> Job:
    return Job(preferences.examples[:24], TASK, engine, 3, tmp_path)


def planted(examples: int = 200, width: int = 16):
    """States of contrast pairs, by a truth that is one direction among noise; and the truth."""
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(examples, generator=generator) < 0.5
    sign = torch.where(true, 1.0, -1.0)[:, None]
    states = torch.randn(2, examples, width, generator=generator)
    direction = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    states[0] += 3 * sign * direction + 5  # and a label's own shift, which says nothing
    states[1] -= 3 * sign * direction + 2
    return states, true


def test_the_loss_of_contrast_consistent_search():
    first = torch.tensor([[0.9, 0.2], [0.5, 0.5]])
    second = torch.tensor([[0.1, 0.6], [0.5, 0.5]])
    # (0.9 - 0.9)² + 0.1², (0.2 - 0.4)² + 0.2²; of a probe that knows nothing 0 + 0.5² twice
    expected = torch.tensor([(0.01 + 0.08) / 2, 0.25])
    assert torch.allclose(ccs_loss(first, second), expected)


def test_each_labels_states_are_normalised_by_themselves():
    states = torch.tensor([[[1.0, 7.0], [3.0, 7.0]], [[10.0, 0.0], [30.0, 8.0]]])
    expected = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 1.0]]])
    assert torch.allclose(normalized(states), expected)


@pytest.mark.parametrize("method", [CCS(probe_epochs=200), PCA()])
def test_a_probe_finds_the_direction_of_the_truth(method):
    states, true = planted()
    found = method.log_odds(normalized(states), torch.Generator().manual_seed(0)) > 0
    right = (found == true).double().mean().item()
    assert max(right, 1 - right) > 0.97


def test_states_are_those_of_the_model_at_the_last_token(engine, preferences):
    texts = [example.text + " True" for example in preferences.examples[:5]]
    found = last_states(engine, texts, 2)
    for text, state in zip(texts, found, strict=True):
        ids = [engine.tokenizer.bos_token_id, *engine.tokenizer.encode(text)]
        output = engine.model(torch.tensor([ids]), output_hidden_states=True)
        assert torch.allclose(state, output.hidden_states[2][0, -1], atol=1e-4)


@pytest.mark.parametrize("method", [CCS(probe_epochs=50), PCA(), RandomProbe()])
def test_the_end_that_agrees_with_zero_shot_is_taken(job, method):
    for consistency in (True, False):
        method.consistency = consistency
        found = method.label(job)
        if consistency:
            assert all(
                found.labels[a.id] != found.labels[b.id]
                for a, b in zip(job.examples[::2], job.examples[1::2], strict=True)
            )
    alone = ZeroShot(consistency=False).label(job).labels
    method.objective = "mean_log_odds"
    plain = method.label(Job(job.examples, TASK, job.engine, 3, job.folder / "plain"))
    by_zero_shot = ZeroShot(consistency=False, objective="mean_log_odds").label(job).labels
    agreement = sum(plain.labels[id] == by_zero_shot[id] for id in alone) / len(alone)
    assert plain.figures["zero_shot_agreement"] == pytest.approx(agreement)
    assert agreement >= 0.5


def test_states_that_were_read_are_not_read_again(job, monkeypatch):
    monkeypatch.setattr("icm_rl.icm.methods.answers._FEWEST", 10)
    states, cost = contrast_states(job, None)
    assert states.shape == (2, 24, 192) and cost.computed_tokens > 0
    before = job.engine.computed_tokens
    again, same = contrast_states(job, None)
    assert torch.equal(again, states) and same == cost
    assert job.engine.computed_tokens == before
    whole, _ = contrast_states(Job(job.examples, TASK, job.engine, 3, job.folder / "whole"), None)
    assert torch.allclose(whole, states, atol=1e-4)


@pytest.mark.parametrize("method", [CCS, PCA, RandomProbe])
def test_what_a_probe_cannot_do_is_said(job, method: type[Probe]):
    job.task = configured("claims", verbalizers='{"a": " red", "b": " blue", "c": " green"}')
    with pytest.raises(InputError, match=f"--method {method.name} is for two labels, not 3"):
        method().check(job)
    job.task = TASK
    layers = job.engine.model.config.num_hidden_layers
    method(layer=layers).check(job)
    with pytest.raises(InputError, match=f"--layer {layers + 1}: the model has {layers}; set at"):
        method(layer=layers + 1).check(job)
    flags = ["--method", method.name, "--server", "http://localhost:1/v1", "--data", "x.jsonl"]
    with pytest.raises(InputError, match="needs hidden states of the model, which a --server"):
        parse_icm(flags)
