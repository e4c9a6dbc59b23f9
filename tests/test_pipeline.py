"""The whole chain, small, killed in every stage and continued: the same labels, the same report."""

import json
import re

import pytest
import yaml

from icm_rl.errors import InputError
from icm_rl.files import write_jsonl
from icm_rl.pipeline import write_benchmark
from icm_rl.tasks import TASKS
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
    del report["seconds"], report["peak_memory"]
    return report


def test_the_chain_ends_with_a_table_and_a_report(whole):
    folder, done = whole
    assert "Policy on the benchmark's prompts" in done.stdout
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert (folder / "report.html").read_text().count("data-chart=") >= 10
    for model in ("reward/icm", "ppo/policy"):
        assert "| base model | `miniature` |" in (folder / model / "README.md").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["icm"]["examples"] == 16
    assert set(report["peak_memory"]) == set(report["seconds"]) - {"total"}
    assert all(0.1 < gib < 24 for gib in report["peak_memory"].values())
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


def test_a_chain_begins_with_prompts_alone(data, tmp_path):
    prompts = rows(data / "prompts.jsonl")[:16]
    write_jsonl(tmp_path / "prompts.jsonl", prompts[:12])
    write_jsonl(tmp_path / "held_out.jsonl", prompts[12:])
    (tmp_path / "own.py").write_text(
        "def long(prompt, answer):\n    return None if len(answer) == 20 else len(answer) > 20\n"
    )
    answers = {"answers_dir": str(tmp_path / "answers"), "response_length": 16}
    template = "Query: {query}\nResponse: {response}\nClaim: The response is helpful\nThat is"
    icm = {"template": template, "objective": "centered", "sweeps": 1, "restarts": 1}
    icm |= {"iterations_per_example": 0.25, "pool_size": 12, "pairing": "all"}
    settings = {
        "sampling": {**answers, "responses_per_prompt": 3},
        "icm": icm,
        "zero_shot": {"method": "zero_shot", "template": template, "pairing": "all"},
        "policy": {**answers, "temperature": 1.0},
    }
    for name in ("reward", "ppo"):
        shipped = yaml.safe_load((ROOT / f"recipes/configs/miniature/{name}.yaml").read_text())
        settings[name] = {**shipped, **SMALL[f"{name}.yaml"]}
    for name, values in settings.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    config = {
        "run_dir": str(tmp_path / "run"),
        "model": "miniature",
        "task": "responses",
        "prompts": str(tmp_path / "prompts.jsonl"),
        "eval_prompts": str(tmp_path / "held_out.jsonl"),
        "rule": f"{tmp_path / 'own.py'}:long",
        "responses_config": str(tmp_path / "sampling.yaml"),
        "other_icm_configs": [str(tmp_path / "zero_shot.yaml")],
        **{f"{name}_config": str(tmp_path / f"{name}.yaml") for name in ("icm", "reward", "ppo")},
        "policy_config": str(tmp_path / "policy.yaml"),
    }
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump(config))
    command = ["recipes/pipeline.py", "--config", tmp_path / "chain.yaml"]
    run(*command)
    folder = tmp_path / "run"
    sampled = rows(folder / "responses" / "train" / "responses.jsonl")
    assert [row["prompt"][0]["content"] for row in sampled] == [p["prompt"] for p in prompts[:12]]
    report = json.loads((folder / "report.json").read_text())
    assert list(report["reward_model"]) == ["icm", "zero_shot", "gold"]
    held_out = rows(folder / "responses" / "held_out" / "responses.jsonl")
    preferred = [
        (chosen, rejected)
        for row in held_out
        for chosen, better in zip(row["responses"], row["labels"], strict=True)
        for rejected, other in zip(row["responses"], row["labels"], strict=True)
        if better is True and other is False
    ]
    benchmark = rows(folder / "data" / "benchmark.jsonl")
    assert sorted((row["chosen"], row["rejected"]) for row in benchmark) == sorted(set(preferred))
    answers = [row["answers"] for row in rows(folder / "policy" / "ppo" / "answers.jsonl")]
    for role, answered in (("before", "miniature"), ("after", str(folder / "ppo" / "policy"))):
        long = [len(of[answered]["text"]) > 20 for of in answers]
        assert report["policy"][role]["gold_rate"] == sum(long) / len(long)
    again = run(*command)
    assert again.stderr.count("(complete)") == stages(again)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rule", "positive", "--world_seed", 0), "--rule and --world_seed both check the"),
        (("--eval_prompts", "p.jsonl"), "--eval_prompts are for --responses_config; drop them or"),
        (("--responses_config", "c.yaml", "--data", "d"), "--data and --responses_config are both"),
        (("--responses_config", "c.yaml"), "--rule is missing: without it the responses have no"),
    ],
)
def test_flags_that_cannot_go_together_are_told_before_anything_runs(flags, message, tmp_path):
    done = run("recipes/pipeline.py", "--run_dir", tmp_path / "run", *flags, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_held_out_responses_that_are_all_right_make_no_benchmark(tmp_path):
    rows = [{"prompt": "?", "responses": ["Yes.", "Sure."], "labels": [True, True]}]
    rows += [{"prompt": "!", "responses": ["No.", "Never."], "labels": [None, False]}]
    write_jsonl(tmp_path / "responses.jsonl", rows)
    with pytest.raises(InputError, match="to none of these prompts one response is right"):
        write_benchmark(TASKS["responses"].load(tmp_path / "responses.jsonl"), tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()
