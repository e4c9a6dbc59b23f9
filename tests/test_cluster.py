"""Engines and reward models on a Ray cluster of two workers: their answers, and their deaths."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from icm_rl.engines import Request
from icm_rl.engines.loading import EngineConfig, load_engine
from icm_rl.errors import InputError
from icm_rl.reward.scorer import conversation
from icm_rl.reward.spreading import SpreadConfig, load_scorer
from icm_rl.tasks import TASKS
from tests.conftest import kill_when, rows, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.process

LABELS = list(TASKS["preferences"].verbalizers.values())
ICM = ("recipes/icm.py", "--config", "recipes/configs/miniature/zero_shot.yaml")
ICM = (*ICM, "--signals", "false", "--baselines", "false")


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_what_a_worker_that_was_killed_had_to_do_is_done(cluster, tmp_path):
    from icm_rl.cluster import Copies, joined

    class Dying:  # when it is first asked for 5, and not again
        def __init__(self, marker: Path):
            self.marker = marker

        def squares(self, numbers: list[int]) -> list[int]:
            if 5 in numbers and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return [number**2 for number in numbers]

        def refuse(self, numbers: list[int]) -> list[int]:
            raise InputError(f"not {len(numbers)} numbers")

    copies = Copies(2, Dying, tmp_path / "died")
    assert joined(copies.share("squares", range(40))) == [number**2 for number in range(40)]
    assert (tmp_path / "died").exists()
    with pytest.raises(InputError, match=r"^not 1 numbers$"):
        copies.share("refuse", [1])
    with pytest.raises(InputError, match="--ray_actors 3: the cluster has 2 CPUs"):
        Copies(3, Dying, tmp_path)


def test_answers_equal_the_local_engines(cluster, preferences, tmp_path, model):
    config = EngineConfig(dtype="float32")
    local = load_engine("miniature", LABELS, config)
    there = load_engine("miniature", LABELS, EngineConfig(dtype="float32", ray_actors=2))
    words = [(example.text, LABELS[k % 2]) for k, example in enumerate(preferences.examples[:6])]
    shown = tuple(word for pair in words for word in pair)
    requests = [Request(shown, example.text) for example in preferences.examples[6:30]]
    for one, other in zip(
        there.label_log_probs(requests), local.label_log_probs(requests), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-4)
    assert there.prompt_tokens == local.prompt_tokens
    assert there.count_tokens(shown[0]) == local.count_tokens(shown[0])
    changed = tmp_path / "changed"
    with_other = model.__class__.from_pretrained(model.name_or_path)
    with_other.lm_head.weight.data *= 1.1
    with_other.save_pretrained(changed)
    for here, far in ((local.with_weights(changed), there.with_weights(changed)), (local, there)):
        for one, other in zip(
            far.label_log_probs(requests[:4]), here.label_log_probs(requests[:4]), strict=True
        ):
            assert one == pytest.approx(other, abs=1e-4)


def test_a_labeling_on_a_cluster_killed_and_continued_gives_the_local_labels(data, tmp_path):
    command = (*ICM, "--data", data / "preferences_train.jsonl", "--limit", 48)
    run(*command, "--output_dir", tmp_path / "local")
    out = tmp_path / "out"
    there = (*command, "--ray_actors", 2, "--output_dir", out)
    kill_when(there, lambda: any((out / "answers").glob("*.json")))
    run(*there)
    local, clustered = (rows(folder / "labels.jsonl") for folder in (tmp_path / "local", out))
    assert [row["label"] for row in clustered] == [row["label"] for row in local]


def test_rewards_equal_the_local_ones(cluster, few, reward_model):
    talks = [
        [conversation(row["prompt"], row[name]) for name in ("chosen", "rejected")]
        for row in rows(few)
    ]
    local = SpreadConfig(str(reward_model), data="unused", dtype="float32")
    there = replace(local, ray_actors=2)
    found, expected = (load_scorer(config).score_groups(talks) for config in (there, local))
    assert len(found) == len(talks)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    lost = replace(there, reward_model="nowhere")
    with pytest.raises(InputError, match="nowhere"):
        load_scorer(lost).score_groups(talks)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--method", "ccs"), "hidden states of the model, which --ray_actors does not give"),
        (("--processes", 2), "--ray_actors are asked by one process; drop --processes"),
        (("--server", "http://x/v1"), "--ray_actors and --server exclude each other"),
    ],
)
def test_what_does_not_go_with_a_cluster_is_told(flags, line):
    from icm_rl.icm.config import parse_icm

    with pytest.raises(InputError, match=line):
        parse_icm(["--ray_actors", "2", *map(str, flags)])
