"""The demo's search gives the labels that it gave before the package was rebuilt around it."""

import json
import random
from pathlib import Path

import pytest

from icm_rl.icm.config import parse_icm
from icm_rl.icm.methods import Job
from icm_rl.icm.objective import Scorer
from icm_rl.icm.search import search
from tests.conftest import ROOT

RECORDED = json.loads(Path(__file__).with_name("demo_pool.json").read_text())
"""The searches of the first of the demo's 48 pools, at commit 49a84be."""


@pytest.mark.parametrize("restart", range(len(RECORDED)))
def test_the_first_pool_of_the_demo(restart, preferences, engine, tmp_path):
    config, method = parse_icm(["--config", str(ROOT / "recipes/configs/miniature/icm.yaml")])
    job = Job(preferences.examples, config.configured_task, engine, config.seed, tmp_path)
    pool = job.pools(method.pool_size)[0]
    scorer = Scorer(pool, job.task, engine, method.alpha)
    rng = random.Random(f"search {config.seed} 0 {restart}")
    state = search(scorer, method, rng)
    recorded = RECORDED[restart]
    assert {id for id, label in state.labels.items() if label} == set(recorded["true"])
    assert state.score.utility == pytest.approx(recorded["utility"], abs=1e-3)
    accepted = "".join("+" if record["accepted"] else "-" for record in state.history)
    assert accepted == recorded["accepted"]
