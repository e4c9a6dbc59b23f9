"""eval/rewardbench.py as a user runs it, and beside the rewardbench package."""

import json
import subprocess
from pathlib import Path

import pytest
from datasets import load_dataset

from icm_rl.files import write_jsonl
from tests.conftest import ROOT, SHARED, kill_when, rows, run

pytestmark = pytest.mark.process

PACKAGE = ROOT / ".venv-rewardbench"
LLMBAR = SHARED / "reward_bench_llmbar.jsonl"


@pytest.fixture(scope="module")
def llmbar(tmp_path_factory) -> Path:
    """Some of RewardBench's own rows: each tenth of the five LLMBar subsets."""
    if not LLMBAR.exists():
        pytest.skip("RewardBench's rows are not beside the project")
    file = tmp_path_factory.mktemp("llmbar") / "llmbar.jsonl"
    write_jsonl(file, rows(LLMBAR)[::10])
    return file


@pytest.fixture(scope="module")
def scored(reward_model, llmbar, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored") / "out"
    done = run(
        *("eval/rewardbench.py", "--reward_model", reward_model, "--dtype", "float32"),
        *("--benchmark", llmbar, "--output_dir", folder),
    )
    return folder, done.stdout


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def scores_of(folder):
    return load_dataset("parquet", data_files=str(folder / "scores.parquet"), split="train")


def test_rewardbench_on_its_own_rows(scored, llmbar):
    folder, printed = scored
    metrics, scores, asked = metrics_of(folder), scores_of(folder), rows(llmbar)
    right = [
        chosen[0] > rejected[0]
        for chosen, rejected in zip(scores["chosen"], scores["rejected"], strict=True)
    ]
    assert scores["id"] == [str(row["id"]) for row in asked]
    assert scores["credit"] == [float(x) for x in right]
    for subset in {row["subset"] for row in asked}:
        own = [x for x, row in zip(right, asked, strict=True) if row["subset"] == subset]
        accuracy = 100 * sum(own) / len(own)
        assert metrics["subsets"][subset] == pytest.approx(accuracy)
        low, high = metrics["intervals"]["subsets"][subset]
        assert low <= accuracy <= high
        [line] = [line for line in printed.splitlines() if line.split()[:1] == [subset]]
        assert line.split()[1:3] == [str(len(own)), f"{accuracy:.2f}"]
    assert "without rows, not in the score: Chat, Safety, Reasoning" in printed
    assert not list(folder.glob("partial-*"))


def test_the_rewardbench_package_gives_the_same_to_the_row(scored, reward_model, llmbar, tmp_path):
    if not (PACKAGE / "ready").exists():
        pytest.skip("the rewardbench package is not here; 'make test' installs it if it can")
    command = [
        PACKAGE / "bin" / "python",
        ROOT / "benchmarks/rewardbench_package.py",
        reward_model,
        llmbar,
    ]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "found.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "found.json").read_text())
    folder, _ = scored
    metrics, scores = metrics_of(folder), scores_of(folder)
    assert [str(row["id"]) for row in found["rows"]] == scores["id"]
    assert [row["results"] for row in found["rows"]] == scores["credit"]
    for name in ("chosen", "rejected"):
        theirs = [row[f"scores_{name}"] for row in found["rows"]]
        assert [score for [score] in scores[name]] == pytest.approx(theirs, abs=1e-4)
    assert metrics["subsets"] == pytest.approx({s: 100 * v for s, v in found["subsets"].items()})
    assert metrics["sections"]["Chat Hard"] == pytest.approx(100 * found["sections"]["Chat Hard"])


def test_its_own_tools_find_the_results(scored, reward_model, llmbar):
    folder, _ = scored
    name = "/".join(reward_model.parts[-2:])
    found = json.loads((folder / "eval-set" / f"{name}.json").read_text())
    assert found.pop("model") == name and found.pop("model_type") == "Seq. Classifier"
    assert found.pop("chat_template") == "tokenizer"
    expected = {subset: value / 100 for subset, value in metrics_of(folder)["subsets"].items()}
    assert found == pytest.approx(expected)
    scores = json.loads((folder / "eval-set-scores" / f"{name}.json").read_text())
    columns = ("id", "subset", "text_chosen", "text_rejected", "results")
    columns += ("scores_chosen", "scores_rejected")
    assert all(len(scores[column]) == len(rows(llmbar)) for column in columns)


def test_run_again_it_prints_its_table_and_compares(scored, reward_model, llmbar, tmp_path):
    folder, printed = scored
    flags = ("--reward_model", reward_model, "--dtype", "float32", "--benchmark", llmbar)
    again = run("eval/rewardbench.py", *flags, "--output_dir", folder, "--baseline", folder)
    assert again.stdout.startswith(printed)
    assert "against the baseline +0.00 (+0.00 – +0.00); better on 0 rows" in again.stdout


def test_killed_it_continues_to_the_same_scores(scored, reward_model, llmbar, tmp_path):
    out = tmp_path / "out"
    flags = ("eval/rewardbench.py", "--reward_model", reward_model, "--dtype", "float32")
    flags += ("--benchmark", llmbar, "--output_dir", out)
    kill_when(flags, lambda: any(out.glob("partial-*.jsonl")))
    run(*flags)
    assert scores_of(out).to_list() == scores_of(scored[0]).to_list()


def test_a_policys_implicit_reward_and_its_zero_shot_judge(few, tmp_path):
    judged = run(
        *("eval/rewardbench.py", "--judge", "miniature", "--benchmark", few),
        *("--output_dir", tmp_path / "judge"),
    )
    judge = metrics_of(tmp_path / "judge")["judge"]
    assert 0 <= judge["orders_agree"] <= 1
    assert f"{judge['more_confident_order']['score']:.2f}" in judged.stdout
    assert set(scores_of(tmp_path / "judge")["credit"]) <= {0, 0.5, 1}
    implicit = run(
        *("eval/rewardbench.py", "--policy", "miniature", "--reference", "miniature"),
        *("--benchmark", few, "--output_dir", tmp_path / "implicit"),
        *("--baseline", tmp_path / "judge"),
    )
    # a policy is its own reference: every reward is 0, and equal rewards are not right
    assert metrics_of(tmp_path / "implicit")["score"] == 0
    assert "against the baseline -" in implicit.stdout


def test_rewardbench_2_and_the_prior_sets(reward_model, tmp_path):
    texts = ["2 + 3 = 5.", "2 + 3 = 4.", "Six.", "No."]
    table = [
        {"id": str(k), "prompt": "What is 2 + 3?", "subset": subset}
        | {"chosen": texts[:1], "rejected": texts[1:]}
        for k, subset in enumerate(["Math", "Math", "Focus", "Factuality", "Precise IF", "Safety"])
    ]
    table.append(table[0] | {"subset": "Ties", "id": "ref:3"})
    table.append(table[0] | {"subset": "Ties", "id": "tied:3", "chosen": ["5", "5."]})
    write_jsonl(tmp_path / "second.jsonl", table)
    flags = ("eval/rewardbench.py", "--reward_model", reward_model)
    run(*flags, "--benchmark", tmp_path / "second.jsonl", "--output_dir", tmp_path / "second")
    metrics = metrics_of(tmp_path / "second")
    assert list(metrics["sections"]) == [
        "Factuality",
        "Precise IF",
        "Math",
        "Safety",
        "Focus",
        "Ties",
    ]
    assert metrics["score"] == pytest.approx(sum(metrics["sections"].values()) / 6)
    judged = run(
        *("eval/rewardbench.py", "--judge", "miniature", "--output_dir", tmp_path / "judge"),
        *("--benchmark", tmp_path / "second.jsonl"),
    )
    assert "without rows, not in the score: Ties" in judged.stdout
    dialogue = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    dialogue.append({"role": "user", "content": "What is 2 + 3?"})
    pair = {"chosen": texts[0], "rejected": texts[1]}
    write_jsonl(tmp_path / "first.jsonl", [pair | {"prompt": "Add.", "subset": "math-prm"}])
    write_jsonl(tmp_path / "prior.jsonl", [pair | {"prompt": dialogue, "subset": "shp"}])
    run(
        *(*flags, "--benchmark", tmp_path / "first.jsonl", "--output_dir", tmp_path / "first"),
        *("--prior_sets", tmp_path / "prior.jsonl"),
    )
    assert set(metrics_of(tmp_path / "first")["sections"]) == {"Reasoning", "Prior Sets"}
    assert list((tmp_path / "first" / "pref-sets").rglob("*.json"))
