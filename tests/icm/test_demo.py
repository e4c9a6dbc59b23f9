"""The demo's search gives the labels that it gave before."""

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
"""Two searches of the first of the demo's pools, half an iteration an example."""


@pytest.mark.parametrize("restart", range(len(RECORDED)))
def test_the_first_pool_of_the_demo(restart, preferences, engine, tmp_path):
    flags = ["--config", str(ROOT / "recipes/configs/miniature/icm.yaml")]
    config, method = parse_icm([*flags, "--iterations_per_example", "0.5"])
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
