"""Labels that are there already, spoiled ones, and labelings taken together."""

from math import sqrt

import pytest

from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.labeling import prepared
from icm_rl.icm.methods import Job
from icm_rl.icm.methods.ensemble import Ensemble, standardized
from icm_rl.icm.methods.known import SURE, Golden, Human, Perturbed, perturbed
from icm_rl.tasks import TASKS, Dataset, Example

TASK = TASKS["preferences"]


@pytest.fixture
def job(preferences, engine, tmp_path) -> Job:
    return Job(preferences.examples[:40], TASK, engine, 3, tmp_path)


def test_known_labels_are_taken_as_they_are(preferences, engine, tmp_path):
    config = IcmConfig(output_dir=str(tmp_path))
    for method, known in ((Golden(), preferences.gold), (Human(), preferences.human)):
        found = method.label(prepared(preferences, engine, config, method))
        assert found.labels == known
        assert set(found.log_odds.values()) == {SURE} and not found.cost.computed_tokens


def test_labels_that_are_missing_are_asked_for(preferences, engine, tmp_path):
    data = Dataset(preferences.examples, preferences.gold)
    config = IcmConfig(output_dir=str(tmp_path))
    said = f"needs a human label for every example; {len(data.examples)} of"
    with pytest.raises(InputError, match=said):
        prepared(data, engine, config, Human())


def test_so_many_labels_go_wrong_and_pairs_stay_pairs(job, preferences):
    job.gold = {e.id: preferences.gold[e.id] for e in job.examples}
    found = Perturbed(right_share=0.8).label(job).labels
    wrong = [e for e in job.examples if found[e.id] != job.gold[e.id]]
    assert len(wrong) == 8
    for a, b in zip(job.examples[::2], job.examples[1::2], strict=True):
        assert found[a.id] != found[b.id]
    assert found == Perturbed(right_share=0.8).label(job).labels
    job.seed = 4
    assert found != Perturbed(right_share=0.8).label(job).labels


@pytest.mark.parametrize(("share", "wrong"), [(1.0, 0), (0.0, 30), (0.7, 9), (0.98, 1)])
def test_claims_go_wrong_one_by_one(share, wrong):
    task = TASKS["truthfulqa"]
    examples = [Example(str(k), f"claim {k}", str(k // 3), str(k)) for k in range(30)]
    gold = {e.id: k % 3 == 0 for k, e in enumerate(examples)}
    found = perturbed(examples, gold, task, share, 0)
    assert sum(found[id] != gold[id] for id in gold) == wrong


def test_log_odds_are_put_on_one_scale():
    odds = {"a": (6.0, -6.0), "b": (4.0, -4.0), "c": (-1.0, 1.0)}
    # less 2, midway between 5 and -1: 4, 2 and -3, whose mean square is 29 / 3
    size = sqrt(29 / 3)
    found = standardized(odds, centered=True)
    assert found["a"] == pytest.approx((4 / size, -4 / size))
    assert found["c"] == pytest.approx((-3 / size, 3 / size))
    plain = standardized(odds, centered=False)
    assert plain["a"] == pytest.approx((6 / sqrt(53 / 3), -6 / sqrt(53 / 3)))


def saved(path, job, values) -> str:
    """A labeling's file: True with these log-odds, or False where they are below zero."""
    rows = [
        {"id": e.id, "label": value > 0, "log_odds": abs(value)}
        for e, value in zip(job.examples, values, strict=True)
    ]
    write_jsonl(path, rows)
    return str(path)


def test_an_ensemble_is_the_mean_of_its_members(job, tmp_path):
    job.examples = job.examples[:4]
    one = saved(tmp_path / "one.jsonl", job, [3.0, 1.0, -1.0, -3.0])
    other = saved(tmp_path / "other.jsonl", job, [100.0, -300.0, -100.0, 300.0])
    # in units of their spread: 1.34, 0.45, -0.45, -1.34 and 0.45, -1.34, -0.45, 1.34
    method = Ensemble(labelings=[one, other], consistency=False)
    method.check(job)
    found = method.label(job)
    assert list(found.labels.values()) == [True, False, False, False]
    unit = 1 / sqrt(5)
    assert found.log_odds[job.examples[0].id] == pytest.approx(2 * unit)
    assert found.log_odds[job.examples[1].id] == pytest.approx(unit)
    assert found.log_odds[job.examples[3].id] == pytest.approx(0, abs=1e-9)
    # of the two orders of a pair the more confident decides
    paired = Ensemble(labelings=[one, other]).label(job).labels
    assert list(paired.values()) == [True, False, False, True]


def test_what_is_no_labeling_of_the_data_is_said(job, tmp_path):
    whole = saved(tmp_path / "whole.jsonl", job, [1.0] * 40)
    with pytest.raises(InputError, match="--labelings: name two or more"):
        Ensemble(labelings=[whole]).check(job)
    with pytest.raises(InputError, match=r"--labelings none.jsonl: no such file"):
        Ensemble(labelings=[whole, "none.jsonl"]).check(job)
    few = Job(job.examples[:30], TASK, job.engine, 0, tmp_path)
    part = saved(tmp_path / "part.jsonl", few, [1.0] * 30)
    said = f"part.jsonl: example '{job.examples[30].id}' of this data set has no label there"
    with pytest.raises(InputError, match=said):
        Ensemble(labelings=[whole, part]).check(job)
