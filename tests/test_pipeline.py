"""The whole chain, small, killed in every stage and continued: the same labels, the same report."""

import json
import re

import pytest
import yaml

from icm_rl.files import write_jsonl
from tests.conftest import ROOT, kill_when, rows, run

pytestmark = pytest.mark.process

SMALL = {
    "icm.yaml": {"limit": 8, "restarts": 1, "iterations_per_example": 1, "baselines": False},
    "reward.yaml": {"num_train_epochs": 1, "per_device_train_batch_size": 4, "save_steps": 2},
    "ppo.yaml": {
        "total_episodes": 96,
        "per_device_train_batch_size": 32,
        "save_steps": 1,
        "num_mini_batches": 1,
    },
    "grpo.yaml": {"max_steps": 4, "per_device_train_batch_size": 16, "num_generations": 4},
}


def chain(folder, data, few):
    pairs = folder / "pairs.jsonl"
    write_jsonl(pairs, rows(data / "preferences_train.jsonl")[:24])
    flags = ["--benchmark", few, "--data", pairs]
    answers = {"answers_dir": str(folder / "answers")}
    for name, changes in {**SMALL, "policy.yaml": answers}.items():
        settings = yaml.safe_load((ROOT / "recipes/configs/miniature" / name).read_text())
        (folder / name).write_text(yaml.safe_dump({**settings, **changes}))
        flags += [f"--{name.removesuffix('.yaml')}_config", folder / name]
    return ["recipes/pipeline.py", "--config", "recipes/configs/miniature.yaml", *flags]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data, few):
    folder = tmp_path_factory.mktemp("whole")
    done = run(*chain(folder, data, few), "--run_dir", folder / "run")
    return folder / "run", done


def stages(done) -> int:
    """How many stages a chain told of."""
    return len(re.findall(r"^\[\d+/\d+\] ", done.stderr, re.M))


def figures(folder):
    report = json.loads((folder / "report.json").read_text())
    del report["seconds"]
    return report


def test_the_chain_ends_with_a_table_and_a_report(whole):
    folder, done = whole
    assert "Policy on RewardBench's prompts" in done.stdout
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert (folder / "report.html").read_text().count("data-chart=") >= 10
    for model in ("reward/icm", "ppo/policy"):
        assert "| base model | `miniature` |" in (folder / model / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["icm"]["examples"] == 16
    assert set(report["reward_model"]) == {"icm", "gold", "human"}


def test_one_word_takes_grpo_in_the_place_of_ppo(whole, data, few):
    folder, first = whole
    before = (folder / "report.json").read_bytes()
    done = run(*chain(folder.parent, data, few), "--run_dir", folder, "--rl", "grpo")
    assert done.stderr.count("(complete)") == stages(first) - 2  # all but the policy and its scores
    report = json.loads((folder / "report.json").read_text())
    assert report["rl"] == "grpo" and "grpo" in report["seconds"]
    assert "3. GRPO" in (folder / "report.html").read_text()
    assert (folder / "grpo" / "policy" / "README.md").exists()
    run(*chain(folder.parent, data, few), "--run_dir", folder)
    assert (folder / "report.json").read_bytes() == before


def test_a_policy_by_each_of_two_labels_and_a_page_that_compares_them(whole, data, few):
    folder, first = whole
    before = (folder / "report.json").read_bytes()
    done = run(*chain(folder.parent, data, few), "--run_dir", folder, "--labels", "icm", "human")
    assert done.stderr.count("(complete)") == stages(first)  # all but the other policy and its own
    assert (folder / "report.json").read_bytes() == before
    other = json.loads((folder / "report-human.json").read_text())
    assert other["label_source"] == "human" and other["icm"] == json.loads(before)["icm"]
    assert f"comparison: {folder / 'comparison.html'}" in done.stdout
    page = (folder / "comparison.html").read_text()
    assert ">human</button>" in page and page.count("data-chart=") == 5


def test_two_assistants_are_compared_over_training(whole, tmp_path):
    folder, _ = whole
    flags = ("--ppo_config", folder.parent / "ppo.yaml", "--total_episodes", 64)
    done = run("benchmarks/labels.py", "--chains", folder, *flags, "--output_dir", tmp_path / "out")
    before = json.loads((folder / "report.json").read_text())["policy"]["sections"]["before"]
    finals = {}
    for name in ("human", "icm"):
        records = rows(tmp_path / "out" / "seed-0" / name / "history.jsonl")
        assert [len(record) > 40 for record in records] == [False, True]
        reference = f"eval/rewards/{folder / 'reward' / 'gold'}@"
        code = [f"{reference}hep-{language}" for language in ("cpp", "java", "js", "python")]
        weights = [984, 164, 164, 164, 164]
        scores = [records[-1][subset] for subset in (f"{reference}math-prm", *code)]
        finals[name] = sum(w * s for w, s in zip(weights, scores, strict=True)) / sum(weights)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("| Reasoning")]
    better = max(finals, key=finals.get)
    start = before["reference_reward"]["Reasoning"]
    reached = 0 if start >= min(finals.values()) else 64
    assert line == (
        f"| Reasoning | {finals['human']:.2f} | {finals['icm']:.2f} "
        f"| {finals['icm'] - finals['human']:.2f} "
        f"| by {'ICM' if better == 'icm' else 'human'} labels, after {reached} of 64 episodes |"
    )
    assert (tmp_path / "out" / "table.md").read_text().strip() in done.stdout
    assert (tmp_path / "out" / "curves.svg").read_text().count("by ICM labels") >= 5


def test_a_stage_that_fails_ends_the_chain_with_its_one_line(whole, data, few, tmp_path):
    folder, _ = whole
    command = chain(tmp_path, data, few)
    reward = yaml.safe_load((tmp_path / "reward.yaml").read_text())
    changed = {**reward, "chat_template_path": "none.jinja"}
    (tmp_path / "reward.yaml").write_text(yaml.safe_dump(changed))
    done = run(*command, "--run_dir", folder, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: none.jinja: no such chat template")
    assert "Traceback" not in done.stderr


def test_killed_in_every_stage_it_ends_the_same(whole, data, few, tmp_path):
    folder = tmp_path / "run"
    command = [*chain(tmp_path, data, few), "--run_dir", folder]
    moments = [
        (folder / "icm" / "pools" / "00000-0.json").exists,
        lambda: any((folder / "reward" / "icm").glob("checkpoint-*")),
        (folder / "rewardbench" / "icm" / "settings.json").exists,
        lambda: any((folder / "ppo").glob("checkpoint-*/state.json")),
        (folder / "policy" / "ppo" / "settings.json").exists,
    ]
    for appears in moments:
        kill_when(command, appears)
    run(*command)
    assert figures(folder) == figures(whole[0])
    labels = [path / "icm" / "labels.jsonl" for path in (folder, whole[0])]
    assert labels[0].read_bytes() == labels[1].read_bytes()
