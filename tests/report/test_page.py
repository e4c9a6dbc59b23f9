import copy
import json
import re

from icm_rl.files import write_json, write_jsonl
from icm_rl.report import charts
from icm_rl.report.collect import collect
from icm_rl.report.comparison import comparison_page
from icm_rl.report.names import SIGNALS
from icm_rl.report.printed import results_table
from icm_rl.report.run import write_report
from icm_rl.report.table import NUMBERS_OF_PAIRS, seed_result, seeds_table

REQUIRED = (
    "icm.zero_shot_accuracy",
    "icm.golden_many_shot_accuracy",
    "icm.human_label_accuracy",
    "icm.label_accuracy",
    "reward_model.icm.score",
    "reward_model.gold.score",
    "reward_model.human.score",
    "judge.score",
    "judge.more_confident_order.score",
    "policy.before.gold_rate",
    "policy.after.gold_rate",
    "policy.before.reference_reward",
    "policy.after.reference_reward",
    "policy.win_rate",
    "seconds.icm",
    "seconds.reward_model",
    "seconds.ppo",
    "seconds.eval",
    "seconds.total",
)


def value(report, key):
    for part in key.split("."):
        report = report[part]
    return report


def finished_run(folder):
    """The files of a finished run, with hostile text in what comes from models."""
    table = {"mean": 0.5, "interval": [0.4, 0.6], "sections": {"Chat": 0.5, "Safety": 0.5}}
    names = ("zero_shot", "golden_many_shot", "random_many_shot", "label", "human_label")
    icm = {f"{name}_accuracy": 0.1 * k for k, name in enumerate(names, 1)}
    icm["consistent_zero_shot_accuracy"] = 0.6
    described = {
        "method": "search",
        "method_summary": "by <b>bold</b> means",
        "examples": 4,
        "pools": 1,
        "signals": dict.fromkeys(SIGNALS, 0.125),
        "forecast": {
            **{"accuracy": 0.8125, "low": 0.68, "high": 0.93},
            **{"verdict": "look first", "to_audit": 57},
        },
        "surface": {
            **{"accuracy": 0.731, "chance": 0.5, "gold_accuracy": 0.618},
            "features": {"length in words": 0.77, 'first word "<b>Thank"': -0.4},
        },
    }
    write_json(folder / "icm/metrics.json", described | icm)
    label = {"id": "0:A>B", "text": "t", "label": True, "log_odds": 1.0, "group": "0"}
    write_jsonl(folder / "icm/labels.jsonl", [label])
    record = {"utility": 1.0, "accuracy": 0.5, "inconsistencies": 0, "temperature": 9.0}
    record |= {"pool": 0, "accepted": True, "changes": {}}
    write_jsonl(folder / "icm/history.jsonl", [{"iteration": k, **record} for k in range(3)])
    for name in ("icm", "gold", "human"):
        scores = {
            "score": 70.0,
            "sections": {"Chat": 70.0, "Chat Hard": 60.0},
            "subsets": {"hep-go": 70.0},
        }
        interval = [60.0, 80.0]
        scores["intervals"] = {
            "score": interval,
            "sections": {"Chat": interval, "Chat Hard": interval},
        }
        scores["by_length"] = {"longer": {"rows": 2, "accuracy": 50.0, "interval": interval}}
        write_json(folder / f"rewardbench/{name}/metrics.json", scores)
        bins = [{"confidence": 0.6, "accuracy": 0.5, "pairs": 2}]
        trained = {"pairs": 3, "eval_calibration_error": 0.123, "eval_reliability": bins}
        trained["eval_accuracy"] = 0.75
        write_json(folder / f"reward/{name}/metrics.json", trained)
    judged = scores | {"judge": {"orders_agree": 0.1, "more_confident_order": scores}}
    write_json(folder / "rewardbench/judge/metrics.json", judged)
    update = {"objective/scores": 0.1, "objective/kl": 0.2, "val/length": 7.0}
    updates = [{"update": k, "episode": 8 * k, **update} for k in (1, 2)]
    write_jsonl(folder / "ppo/history.jsonl", updates)
    (folder / "ppo/policy-1").mkdir(parents=True)
    found = {"reward": {"gold": table}, "length": table, "gold_rate": table}
    found["refusal_rate"] = {"harmful": {"prompts": 2, "rate": 0.5}}
    won = {"win_rate": {"gold": table}, "length_controlled_win_rate": {"gold": 0.5}}
    policy = {"prompts": 1, "baseline": "base", "reference_reward_models": ["gold"]}
    policy["policies"] = {"base": found, "policy": found | won}
    write_json(folder / "policy/ppo/metrics.json", policy)
    before = {"text": "<img src=x>", "rewards": {"gold": 0.0}, "accepted": False}
    after = {"text": "&copy;", "rewards": {"gold": 1.0}, "accepted": True}
    answers = {"base": before, "policy": after}
    turns = [{"role": "user", "content": "first"}, {"role": "user", "content": "last question"}]
    prompts = ["<script>alert(1)</script>", turns]
    rows = [{"prompt": prompt, "answers": answers} for prompt in prompts]
    write_jsonl(folder / "policy/ppo/answers.jsonl", rows)
    for name in ("icm", "ppo"):
        settings = {"seed": 0, "max_kl": 0.1}
        write_json(folder / name / "settings.json", {"settings": settings, "inputs": {}})
    stages = ["responses/train", "icm", "labels/zero_shot", "ppo", "rewardbench/icm", "policy/ppo"]
    stages += [f"reward/{name}" for name in ("icm", "gold", "human")]
    took = {"seconds": 10.0, "peak_memory": 1.5}
    large = {"reward/icm": {"peak_memory": 2.5}}
    write_json(folder / "stages.json", {name: took | large.get(name, {}) for name in stages})


def test_the_report_has_every_key_and_runs_nothing(tmp_path):
    finished_run(tmp_path)
    report = collect(tmp_path, "ppo")
    write_report(tmp_path, report)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert all(isinstance(value(saved, key), int | float) for key in REQUIRED)
    assert saved["seconds"] == {
        "responses": 10.0,
        "icm": 10.0,
        "other_labels": 10.0,
        "reward_model": 30.0,
        "ppo": 10.0,
        "eval": 20.0,
        "total": 90.0,
    }
    assert saved["peak_memory"]["reward_model"] == 2.5 and saved["peak_memory"]["eval"] == 1.5
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "<img src=x>" not in page
    assert "&amp;copy;" in page
    assert "[1 earlier] last question" in page
    assert "labels the data by &lt;b&gt;bold&lt;/b&gt; means" in page
    assert "81.2 %" in page
    assert "90 % interval 68–93 %: look first; judge 57 of them yourself, below" in page
    assert not re.search(r"(src|href)=.http", page)
    assert "policy-1" in page and "ended: the KL exceeded 0.1" in page
    markdown = (tmp_path / "report.md").read_text()
    assert "| icm | 70.0 | 60.0–80.0 | 75.0 | 12.3 |" in markdown
    assert "\\<script\\>alert(1)" in markdown
    assert "ICM labels" in results_table(report)


def test_no_two_curves_have_one_color():
    curves = {name: [(0, 0.0)] for name in ("PPO", "icm", "human", "GRPO", "DPO")}
    spec = charts.lines("Reward", "episode", "reward", curves)
    colors = spec["layer"][0]["encoding"]["color"]["scale"]["range"]
    assert len(set(colors)) == len(curves)


def test_the_report_shows_what_the_model_says_of_the_labels(tmp_path):
    finished_run(tmp_path)
    shown = write_report(tmp_path, collect(tmp_path, "ppo")).with_suffix(".md").read_text()
    assert "| labels that it gives after their opposites | 12.5 % |" in shown
    assert "| log-odds of the opposite labels after each other | 0.125 |" in shown


def test_the_report_shows_which_features_tell_the_labels(tmp_path):
    finished_run(tmp_path)
    page = write_report(tmp_path, collect(tmp_path, "ppo"))
    shown = page.with_suffix(".md").read_text()
    assert (
        "tell 73.1 % of the labels of other prompts (chance 50.0 %, of gold labels 61.8 %)" in shown
    )
    assert "| length in words | 0.770 |" in shown
    assert "<b>Thank" not in page.read_text().split("<script")[0]


def test_a_single_run_is_compared_with_its_interval_and_seeds_by_their_mean(tmp_path):
    finished_run(tmp_path)
    report = collect(tmp_path, "ppo")
    other = copy.deepcopy(report)
    other["reward_model"]["icm"]["score"] = 80.0
    updates = [{"episode": 8, "objective/kl": 0.5}, {"episode": 16, "objective/kl": 2.0}]
    page = comparison_page([("one", report, updates), ("two", report, []), ("two", other, [])])
    [table] = page.sections[0].tables
    rows = {name: cells for name, *cells in table.rows}
    scored = "reward model of the icm labels, score on the benchmark"
    assert rows[scored] == ["70.000", "75.000 ± 7.071"]
    assert rows["policy: KL to the base model at the end, nats an answer"] == ["2.000", ""]
    assert rows["seconds, total"] == ["90.000", "90.000 ± 0.000"]
    [model] = next(s for s in page.sections if s.id == "reward-models").figures
    bars = [row for row in model.spec["data"]["values"] if row["section"] == "Score"]
    assert [(row["group"], row["value"], row["low"], row["high"]) for row in bars] == [
        ("one", 70.0, 60.0, 80.0),
        ("two", 75.0, None, None),
    ]


def test_the_table_of_seeds_has_each_seeds_figure_their_mean_and_deviation(tmp_path):
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        finished_run(folder / "chain")
        write_report(folder / "chain", collect(folder / "chain", "ppo"))
        colors = {"label_accuracy": 0.8, "golden_many_shot_accuracy": 0.7}
        write_json(folder / "colors/metrics.json", colors)
        for name in ("soft", "sure"):
            error = {"eval_calibration_error": 0.125 + 0.25 * seed}
            write_json(folder / f"{name}/metrics.json", error)
            write_json(folder / f"{name}_scored/metrics.json", {"score": 81.5})
        write_json(folder / "spread/labels/metrics.json", {"label_accuracy": 0.75})
        write_json(folder / "spread/reward_scored/metrics.json", {"score": 91.5})
        for count in NUMBERS_OF_PAIRS:
            labels = {"label_accuracy": 0.5 + 0.1 * seed}
            write_json(folder / f"pairs-{count}/icm/metrics.json", labels)
            for name in ("icm", "gold"):
                path = folder / f"pairs-{count}/reward-{name}_scored/metrics.json"
                write_json(path, {"score": count / 100})
    table = seeds_table([seed_result(tmp_path / str(seed)) for seed in (0, 1)])
    # sample standard deviations: |a - b| / sqrt(2)
    assert "| reward model, gold | 70.0 | 70.0 | 70.0 ± 0.0 |" in table
    assert "| reward model, ICM, soft targets | 81.5 | 81.5 | 81.5 ± 0.0 |" in table
    assert "| calibration error, ICM, soft targets | 12.5 | 37.5 | 25.0 ± 17.7 |" in table
    assert "| ICM on *colors* | 80.0 | 80.0 | 80.0 ± 0.0 |" in table
    assert "| 1,536 pairs: ICM labels by folds | 50.0 | 60.0 | 55.0 ± 7.1 |" in table
    assert "| 48 pairs: reward model, gold | 0.5 | 0.5 | 0.5 ± 0.0 |" in table
    assert "labels by the chain's reward model | 75.0 | 75.0 | 75.0 ± 0.0 |" in table
    assert "| 1,536 pairs: reward model of these | 91.5 | 91.5 | 91.5 ± 0.0 |" in table
