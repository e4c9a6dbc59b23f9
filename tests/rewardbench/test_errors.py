"""Each kind of bad input ends eval's programs with exit code 2 and one clear line."""

import pytest
import torch

from icm_rl.files import write_json, write_jsonl
from icm_rl.reward.scorer import RewardScorer
from icm_rl.rewardbench.benchmark import SECTIONS, Benchmark, BenchmarkRow
from icm_rl.rewardbench.reward_model import write_scores
from icm_rl.rewardbench.scoring import RowScore
from tests.conftest import run
from tests.report.test_page import finished_run

ROW = {"prompt": "p", "chosen": "c", "rejected": "r", "subset": "hep-go"}
SECOND = {"prompt": "p", "chosen": ["c"], "rejected": ["r"], "subset": "Math"}
RM = ["--reward_model", "nowhere"]
REWARDBENCH = {
    "nothing to score": ([ROW], [], "name one of --reward_model, --policy and --judge"),
    "two to score": ([ROW], [*RM, "--judge", "miniature"], "name one of --reward_model, --policy"),
    "no reference": ([ROW], ["--policy", "miniature"], "--policy and --reference go together"),
    "no judge": ([ROW], [*RM, "--chat"], "--chat is for a --judge; drop it"),
    "no model": ([ROW], RM, "nowhere: no tokenizer could be loaded"),
    "no column": ([ROW, {"prompt": "p"}], RM, "line 2: the field 'chosen' is missing"),
    "no such subset": ([ROW | {"subset": "x"}], RM, "no row's subset is one of RewardBench's (x)"),
    "no list": (
        [SECOND, ROW | {"subset": "Math"}],
        RM,
        "line 2: the field 'chosen' must be a list",
    ),
    "prior sets": (
        [SECOND],
        [*RM, "--prior_sets", "p.jsonl"],
        "--prior_sets is a section of RewardBench, not of RewardBench 2",
    ),
    "no baseline": ([ROW], [*RM, "--baseline", "none"], "none/scores.parquet: no such file"),
    "another baseline": (
        [ROW],
        [*RM, "--baseline", "BASELINE"],
        "holds the scores of other rows than this benchmark's",
    ),
    "template": (
        [ROW],
        ["--judge", "miniature", "--template", "{question}"],
        "--template names {question}",
    ),
}


def said(done) -> str:
    """The one line of an error."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


@pytest.mark.parametrize("case", REWARDBENCH)
def test_rewardbench_says_what_is_wrong(case, tmp_path):
    rows, flags, message = REWARDBENCH[case]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    if "BASELINE" in flags:
        other = BenchmarkRow("7", "hep-go", "p", ("c",), ("r",))
        benchmark = Benchmark([other], SECTIONS)
        write_scores(tmp_path, benchmark, [RowScore([1.0], [0.0], 1.0)])
        flags = [str(tmp_path) if flag == "BASELINE" else flag for flag in flags]
    done = run(
        *("eval/rewardbench.py", "--benchmark", tmp_path / "rows.jsonl", *flags),
        *("--output_dir", tmp_path / "out"),
        check=False,
    )
    assert message in said(done)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def broken(reward_model, tmp_path_factory):
    """A reward model that gives no numbers."""
    folder = tmp_path_factory.mktemp("broken")
    scorer = RewardScorer.load(str(reward_model))
    torch.nn.init.constant_(scorer.model.score.weight, torch.nan)
    scorer.model.save_pretrained(folder)
    scorer.tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_that_gives_no_number_is_named_with_the_row(broken, data, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [ROW | {"id": "first"}])
    done = run(
        *("eval/rewardbench.py", "--benchmark", tmp_path / "rows.jsonl"),
        *("--reward_model", broken, "--output_dir", tmp_path / "out"),
        check=False,
    )
    expected = f"{broken} gives [nan, nan] for the answers of row 'first' ({tmp_path}/rows.jsonl, "
    assert f"{expected}line 1); try --dtype float32" in said(done)
    assert not (tmp_path / "out" / "scores.parquet").exists()
    done = run(
        *("eval/policy.py", "--config", "recipes/configs/miniature/policy.yaml"),
        *("--benchmark", tmp_path / "rows.jsonl", "--model", "miniature"),
        *("--reference_reward_model", broken, "--output_dir", tmp_path / "policy"),
        *("--answers_dir", tmp_path / "answers"),
        check=False,
    )
    assert "gives [nan] for the answers to the prompt of row 'first'" in said(done)


def test_a_policy_behind_a_dead_server_is_named(reward_model, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [ROW])
    done = run(
        *("eval/policy.py", "--benchmark", tmp_path / "rows.jsonl"),
        *("--model", "chat@http://127.0.0.1:9/v1", "--request_retries", 0),
        *("--response_length", 4, "--reference_reward_model", reward_model),
        *("--output_dir", tmp_path / "policy", "--answers_dir", tmp_path / "answers"),
        check=False,
    )
    assert "chat@http://127.0.0.1:9/v1: no answer (Connection error.)" in said(done)


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"run": "x", "answers": {"0": True}}, "an audit of another run (x, not "),
        ({"answers": {"0": "yes"}}, "not an audit; save one from a report's page"),
        ([1], "not an audit; save one from a report's page"),
        (None, "audit.json: no such file"),
    ],
)
def test_an_audit_that_is_none_of_this_run_changes_no_report(audit, message, tmp_path):
    finished_run(tmp_path / "run")
    write_json(tmp_path / "run" / "report.json", {"rl": "ppo", "label_source": "icm"})
    if audit is not None:
        write_json(tmp_path / "audit.json", audit)
    before = (tmp_path / "run" / "report.json").read_bytes()
    done = run(
        *("eval/report.py", "--runs", tmp_path / "run", "--audit", tmp_path / "audit.json"),
        check=False,
    )
    assert message in said(done)
    assert (tmp_path / "run" / "report.json").read_bytes() == before
    assert not (tmp_path / "run" / "audit.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--runs is missing"),
        (["--runs", "nowhere"], "nowhere/report.json: no such file"),
        (["--runs", "a", "b", "--audit", "x.json"], "--audit is of one run's labels"),
    ],
)
def test_the_report_says_what_is_wrong(flags, message, tmp_path):
    assert message in said(run("eval/report.py", *flags, check=False))


def test_the_chain_has_no_labels_of_others(tmp_path):
    pairs = [{"prompt": "p", "response_a": "x", "response_b": f"y{k}"} for k in range(4)]
    write_jsonl(tmp_path / "data.jsonl", pairs)
    write_jsonl(tmp_path / "rows.jsonl", [ROW])
    done = run(
        *("recipes/pipeline.py", "--run_dir", tmp_path / "run", "--labels", "human"),
        *("--data", tmp_path / "data.jsonl", "--prompts", tmp_path / "data.jsonl"),
        *("--benchmark", tmp_path / "rows.jsonl", "--reference_reward_model", "miniature"),
        check=False,
    )
    assert "--labels: there are no human labels; the data have icm" in said(done)
