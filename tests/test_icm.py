"""ICM as a user runs it: as a process, on the miniature, killed and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.conftest import (
    ROOT,
    SHARED,
    kill,
    kill_when,
    killed_often,
    launched,
    rows,
    run,
    start,
    wait_until,
)

pytestmark = pytest.mark.process

ICM = ("recipes/icm.py", "--config", "recipes/configs/miniature/icm.yaml")
ICM = (*ICM, "--restarts", 1, "--iterations_per_example", 2, "--processes", 1)


@pytest.fixture(scope="module")
def labeled(tmp_path_factory, data):
    """ICM on 10 of the miniature's pairs, in two pools."""
    folder = tmp_path_factory.mktemp("icm")
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 10, "--pool_size", 10)
    run(*ICM, *flags, "--output_dir", folder / "out")
    return folder / "out"


def test_icm_writes_what_the_next_stage_reads(labeled, preferences):
    labels = rows(labeled / "labels.jsonl")
    assert [row["id"] for row in labels] == [e.id for e in preferences.examples[:20]]
    assert all(row["gold"] == preferences.gold[row["id"]] for row in labels)
    metrics = json.loads((labeled / "metrics.json").read_text())
    assert metrics["pools"] == 2
    right = sum(row["label"] == row["gold"] for row in labels)
    assert metrics["label_accuracy"] == pytest.approx(right / 20)
    asked = metrics["signals"]
    assert asked["largest_share"] == 0.5  # of a pair one is True
    assert asked["agreement"] * 20 == pytest.approx(round(asked["agreement"] * 20))
    assert 0 < metrics["forecast"]["low"] < metrics["forecast"]["high"] < 1
    history = rows(labeled / "history.jsonl")
    assert {record["pool"] for record in history} == {0, 1}
    for row in rows(labeled / "preferences.jsonl"):
        assert set(row) == {"prompt", "chosen", "rejected", "log_odds"}
        assert row["chosen"][0]["role"] == "assistant"


def test_gold_labels_never_reach_the_search(labeled, data, tmp_path):
    stripped = [
        {k: v for k, v in row.items() if "label" not in k}
        for row in rows(data / "preferences_train.jsonl")
    ]
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stripped))
    flags = ("--data", tmp_path / "bare.jsonl", "--limit", 10, "--pool_size", 10)
    run(*ICM, *flags, "--signals", "false", "--output_dir", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert not {"signals", "forecast"} & metrics.keys()
    bare = rows(tmp_path / "out" / "labels.jsonl")
    assert all("gold" not in row for row in bare)
    with_gold = [
        {k: v for k, v in row.items() if k != "gold"} for row in rows(labeled / "labels.jsonl")
    ]
    assert bare == with_gold


def test_two_runs_do_not_write_into_one_folder(data, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 10, "--pool_size", 10)
    command = (*ICM, *flags, "--processes", 2, "--output_dir", tmp_path / "out")
    process = start(*command)
    wait_until((tmp_path / "out" / "pools").exists, process)
    refused = run(*command, check=False)
    assert refused.returncode == 2
    assert refused.stderr.strip().endswith(
        f"{tmp_path}/out: another run is at work here; wait for its end or name another folder"
    )
    assert process.is_alive()
    kill(process)
    run(*command)


def test_icm_killed_and_continued_gives_the_same_labels(labeled, data, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 10, "--pool_size", 10)
    command = (*ICM, *flags, "--output_dir", tmp_path / "out")
    pools = tmp_path / "out" / "pools"
    kill_when(command, (pools / "00000-0.unfinished.json").exists)
    kill_when(command, (pools / "00000-0.json").exists)
    run(*command)
    assert (tmp_path / "out/labels.jsonl").read_bytes() == (labeled / "labels.jsonl").read_bytes()
    decisions = [  # their utilities differ by rounding: what a kill lost is computed together
        [[row[name] for name in ("pool", "iteration", "proposal", "accepted")] for row in history]
        for history in (rows(tmp_path / "out" / "history.jsonl"), rows(labeled / "history.jsonl"))
    ]
    assert decisions[0] == decisions[1]
    again = run(*command)
    assert "complete, nothing to do" in again.stdout


def test_twenty_kills_at_random_moments_lose_nothing(data, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 36, "--pool_size", 16)
    flags = (*ICM[1:], *flags, "--baselines", "false")
    run("recipes/icm.py", *flags, "--output_dir", tmp_path / "whole")
    killed_often((*flags, "--output_dir", tmp_path / "out"), tmp_path / "out" / "pools", 20)
    whole, out = ((tmp_path / name / "labels.jsonl").read_bytes() for name in ("whole", "out"))
    assert out == whole


def test_of_several_searches_the_one_of_highest_u_is_kept(data, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 4, "--baselines", "false")
    short = ("--restarts", 3, "--iterations_per_example", 1, "--try_reverse", "false")
    run(*ICM, *flags, *short, "--output_dir", tmp_path)
    searches = [json.loads((tmp_path / "pools" / f"00000-{k}.json").read_text()) for k in range(3)]
    best = max(searches, key=lambda search: search["utility"])
    assert len({search["utility"] for search in searches}) > 1
    found = {row["id"]: row["label"] for row in rows(tmp_path / "labels.jsonl")}
    assert found == best["labels"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["utility"] == best["utility"]
    worst = min(search["utility"] for search in searches)
    assert metrics["utility_spread"] == best["utility"] - worst


def test_icm_trained_on_the_pools_so_far_killed_and_continued(data, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 8, "--pool_size", 8)
    flags = (*ICM, *flags, "--iterations_per_example", 1, "--iterative", "--learning_rate", 1e-4)
    run(*flags, "--output_dir", tmp_path / "whole")
    assert (tmp_path / "whole" / "pools" / "theta-1" / "model.safetensors").exists()
    kill_when((*flags, "--output_dir", tmp_path / "out"), (tmp_path / "out/pools/theta-1").exists)
    run(*flags, "--output_dir", tmp_path / "out")
    assert rows(tmp_path / "out" / "labels.jsonl") == rows(tmp_path / "whole" / "labels.jsonl")


def folds(data, folder) -> tuple:
    flags = ("--config", "recipes/configs/miniature/folds.yaml", "--limit", 16, "--rounds", 2)
    flags = (*flags, "--data", data / "preferences_train.jsonl", "--folds", 2)
    return ("recipes/icm.py", *flags, "--num_train_epochs", 1, "--output_dir", folder)


@pytest.fixture(scope="module")
def by_folds(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("folds") / "out"
    run(*folds(data, folder))
    return folder


def test_icm_by_folds(by_folds, preferences):
    labels = {row["id"]: row["label"] for row in rows(by_folds / "labels.jsonl")}
    assert list(labels) == [e.id for e in preferences.examples[:32]]
    assert all(labels[f"{pair}:A>B"] != labels[f"{pair}:B>A"] for pair in range(16))
    history = rows(by_folds / "history.jsonl")
    assert [record["iteration"] for record in history] == [0, 1, 2]
    metrics = json.loads((by_folds / "metrics.json").read_text())
    assert metrics["utility"] == history[-1]["utility"]
    assert metrics["label_accuracy"] == history[-1]["accuracy"]
    odds = [row["log_odds"] for row in rows(by_folds / "labels.jsonl")]
    assert metrics["utility"] == pytest.approx(50 * sum(odds) / len(odds))
    assert len(rows(by_folds / "preferences.jsonl")) == 16


def test_icm_by_folds_killed_and_continued_gives_the_same_labels(by_folds, data, tmp_path):
    work, flags = tmp_path / "out" / "rounds", folds(data, tmp_path / "out")
    kill_when(flags, (work / "round-1-fold-0.json").exists)
    half = work / "theta-1.unfinished" / "checkpoint-1" / "trainer_state.json"
    kill_when((*flags, "--save_steps", 1), half.exists)
    run(*flags)
    assert not (work / "theta-1.unfinished").exists()
    for name in ("labels.jsonl", "history.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (by_folds / name).read_bytes()


def test_two_processes_learn_the_folds_together_and_agree(by_folds, data, tmp_path):
    run(*folds(data, tmp_path / "out"), "--processes", 2)
    for one, other in zip(
        rows(tmp_path / "out" / "labels.jsonl"), rows(by_folds / "labels.jsonl"), strict=True
    ):
        assert one["label"] == other["label"]
        assert one["log_odds"] == pytest.approx(other["log_odds"], abs=1e-3)


OWN = """
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from icm_rl.icm.methods import Job, Labeling, Method
from icm_rl.icm.prompting import zero_shot_log_probs


@dataclass
class Bold(Method):
    name: ClassVar[str] = "bold"
    summary: ClassVar[str] = "by boldness <b>alone</b>"

    boldness: Annotated[float, Ge(0)] = field(default=1.0, metadata={"help": "How bold it is."})

    def label(self, job: Job) -> Labeling:
        with job.metered() as spent:
            answers = zero_shot_log_probs(job.examples, job.engine)
        odds = {id: true - false for id, (true, false) in answers.items()}
        labels = {e.id: (odds[e.id] > 0) == (e.key == "A>B") for e in job.examples}
        return Labeling(labels, {id: self.boldness * abs(x) for id, x in odds.items()}, spent[0])
"""


def test_a_method_of_the_users_own(data, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    method = ("--method", f"{tmp_path / 'own.py'}:Bold")
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 8, "--output_dir")
    told = run("recipes/icm.py", *method, "--help").stdout
    assert "--boldness" in told and "How bold it is." in told and "--restarts" not in told
    run("recipes/icm.py", *method, *flags, tmp_path / "out", "--boldness", 3)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["method"] == "bold" and metrics["computed_tokens"] > 0
    card = (tmp_path / "out" / "dataset" / "README.md").read_text()
    assert "by a base model, by boldness <b>alone</b>" in card and "boldness: 3.0" in card
    labels = rows(tmp_path / "out" / "labels.jsonl")
    assert len(labels) == 16
    [whole] = rows(tmp_path / "out" / "history.jsonl")
    assert whole["changes"] == {row["id"]: row["label"] for row in labels}
    for flag, message in (
        (("--restarts", 2), "--restarts is a setting of --method search, not of bold; drop it"),
        (("--folds", 2), "--folds is a setting of --method folds, not of bold; drop it"),
        (("--boldness", -1), "--boldness is -1.0; give 0 or more"),
    ):
        done = run("recipes/icm.py", *method, *flags, tmp_path / "no", *flag, check=False)
        assert done.returncode == 2 and done.stderr == f"error: {message}\n"
    done = run("recipes/icm.py", "--method", f"{tmp_path / 'own.py'}:OWN", check=False)
    assert "defines no function 'OWN'" in done.stderr


def test_icm_with_four_labels(data, tmp_path):
    config = "recipes/configs/miniature/colors.yaml"
    quick = ("--limit", 12, "--pool_size", 36, "--baselines", "false")
    flags = ("--data", data / "colors.jsonl", "--output_dir", tmp_path)
    run("recipes/icm.py", "--config", config, *flags, *quick)
    labels = rows(tmp_path / "labels.jsonl")
    assert {row["label"] for row in labels} == {"red", "blue", "green", "white"}
    for row in labels:
        assert {other["label"] for other in labels if other["group"] == row["group"]} == {
            row["label"]
        }
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    right = sum(row["label"] == row["gold"] for row in labels) / len(labels)
    assert metrics["label_accuracy"] == pytest.approx(right)
    assert right > 0.9
    shares = Counter(row["label"] for row in labels)
    assert metrics["label_shares"]["blue"] == pytest.approx(shares["blue"] / len(labels))
    assert not (tmp_path / "preferences.jsonl").exists()


def test_icm_on_claims_labels_and_a_relation_of_the_users_own(tmp_path):
    (tmp_path / "sums.csv").write_text(
        "a,b,c,sum\n" + "".join(f"{k},{k + 1},{k + k + d},s{k}\n" for k in range(6) for d in (1, 2))
    )
    (tmp_path / "mine.py").write_text(
        "def one_is_right(a, label_a, b, label_b):\n    return label_a != label_b\n"
    )
    command = (
        *("recipes/icm.py", "--task", "claims", "--data", tmp_path / "sums.csv"),
        *("--template", "{a} + {b} = {c}. That is", "--group_column", "sum"),
        *("--labels", '{"right": " True", "wrong": " False"}', "--alpha", 0.1),
        *("--relation", f"{tmp_path / 'mine.py'}:one_is_right", "--output_dir", tmp_path / "out"),
    )
    run(*command)
    labels = rows(tmp_path / "out" / "labels.jsonl")
    assert labels[0]["text"] == "0 + 1 = 1. That is"
    for one, other in zip(labels[::2], labels[1::2], strict=True):
        assert {one["label"], other["label"]} == {"right", "wrong"}
    # a relation that was changed is another one, by whatever name
    assert "complete, nothing to do" in run(*command).stdout
    (tmp_path / "mine.py").write_text(
        "def one_is_right(a, label_a, b, label_b):\n    return True\n"
    )
    done = run(*command, check=False)
    assert done.returncode == 2
    assert "holds the results of a run with another relation" in done.stderr


@pytest.mark.parametrize("by", ["--processes", "accelerate launch"])
def test_two_processes_share_out_the_pools_and_agree(labeled, data, tmp_path, by):
    flags = ("--data", data / "preferences_train.jsonl", "--limit", 10, "--pool_size", 10)
    flags = (*ICM, *flags, "--output_dir", tmp_path / "out")
    if by == "--processes":
        said = run(*flags, "--processes", 2).stderr
    else:
        said = "".join(launched(("--multi_gpu", "--num_processes", 2), 2, *flags))
    assert "20/20" in said, "each process has one of the two pools, of 20 iterations each"
    found = rows(tmp_path / "out" / "labels.jsonl")
    for one, other in zip(found, rows(labeled / "labels.jsonl"), strict=True):
        assert one["log_odds"] == pytest.approx(other["log_odds"], abs=1e-3)
        assert one["label"] == other["label"]
    assert "baselines 100% 1/1" in said, "and compares what it found there"
    metrics, alone = (
        json.loads((f / "metrics.json").read_text()) for f in (tmp_path / "out", labeled)
    )
    compared = [name for name in alone if name.endswith("_accuracy")]
    assert len(compared) >= 7
    assert {name: metrics[name] for name in compared} == {name: alone[name] for name in compared}
    assert metrics["gold_utility"] == pytest.approx(alone["gold_utility"], abs=1e-3)


def test_processes_end_with_the_one_that_started_them(data, tmp_path):
    """As a job of a script they ignore SIGINT, by which torch tells them that it has died."""
    flags = ("--data", data / "preferences_train.jsonl", "--output_dir", tmp_path / "out")
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        command = [sys.executable, *ICM, *flags, "--processes", 2]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, handler)
    while not any(tmp_path.glob("out/pools/*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        ("hhh", lambda k: {"prompt": f"Why is {k}?", "chosen": f"As {k} is.", "rejected": "No."}),
        (
            "author_gender",
            lambda k: {"text": f"{k} {'word ' * 40}", "gender": ("male", "female")[k % 2]},
        ),
        ("poems", lambda k: {"content": f"{k} {('The sun', 'A moon')[k % 2]} {'shines ' * 40}"}),
    ],
)
def test_icm_runs_on_rows_as_a_tasks_data_set_has_them(task, row, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row(k)) + "\n" for k in range(6)))
    flags = ("--model", "miniature", "--task", task, "--data", file, "--pool_size", 4)
    flags = (*flags, "--dtype", "float32", "--iterations_per_example", 1)
    run("recipes/icm.py", *flags, "--output_dir", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["examples"] == len(rows(tmp_path / "out" / "labels.jsonl")) >= 6
    assert 0 <= metrics["label_accuracy"] <= 1


@pytest.mark.skipif(not SHARED.exists(), reason="the paper's files are not beside the project")
@pytest.mark.parametrize(
    ("task", "file"),
    [
        ("truthfulqa", "icm_truthfulqa_train.json"),
        ("gsm8k", "icm_gsm8k_test.json"),
        ("alpaca", "icm_alpaca_test.json"),
    ],
)
def test_icm_runs_on_the_papers_files(task, file, tmp_path, tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16_384,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    run(
        *("recipes/icm.py", "--model", tmp_path / "tiny", "--task", task, "--limit", 4),
        *("--data", SHARED / file, "--output_dir", tmp_path / "out"),
        *("--iterations_per_example", 1),
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["examples"] == len(rows(tmp_path / "out" / "labels.jsonl")) > 0
