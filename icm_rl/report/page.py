"""``report.json``, ``report.html`` and the table that ends a run."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from icm_rl.data import read_rows
from icm_rl.files import read_json, write_json, write_text
from icm_rl.report import plots

_LABELS = {
    "zero_shot_accuracy": "zero-shot prompting",
    "consistent_zero_shot_accuracy": "zero-shot, made consistent",
    "random_many_shot_accuracy": "many-shot, random labels",
    "human_label_accuracy": "human labels",
    "human_many_shot_accuracy": "many-shot, human labels",
    "golden_many_shot_accuracy": "many-shot, gold labels",
    "icm_many_shot_accuracy": "many-shot, ICM labels",
    "label_accuracy": "ICM labels",
}
_STYLE = """
:root{color-scheme:light}*{box-sizing:border-box}
body{margin:0 auto;max-width:1120px;padding:24px 20px 64px;color:#0f172a;background:#fff;
font:16px/1.55 system-ui,sans-serif}
h1{font-size:1.7rem;margin:0 0 4px}h2{font-size:1.2rem;margin:40px 0 8px}
p{max-width:72ch;margin:8px 0}.muted{color:#64748b;font-size:.9rem}
.cards{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));margin:20px 0}
.card{border:1px solid #e2e8f0;border-radius:10px;padding:12px 14px}
.card b{display:block;font-size:1.5rem}
.plots{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr))}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
.wide figure,.plots figure:only-child{max-width:640px}
figure{margin:0;border:1px solid #e2e8f0;border-radius:10px;padding:8px}
svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
.answers{min-width:720px}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid #e2e8f0;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.yes{color:#15803d}.no{color:#b91c1c}
"""


def results_table(report: Mapping[str, Any]) -> str:
    """The run's results as lines of text."""
    lines = ["", "ICM labels, share right"]
    for key, name in _LABELS.items():
        if key in report["icm"]:
            lines.append(f"  {name:<28}{100 * report['icm'][key]:6.1f} %")
    lines.append("Reward models, RewardBench score")
    for name, model in report["reward_model"].items():
        sections = "  ".join(f"{k} {v:.1f}" for k, v in model["sections"].items())
        lines.append(f"  {'trained on ' + name + ' labels':<28}{model['score']:6.1f}    {sections}")
    lines.append("Policy on RewardBench's prompts    before     after")
    for key, name in (
        ("gold_rate", "right by the world's rules"),
        ("reference_reward", "reference reward"),
        ("length", "words an answer"),
    ):
        if key in report["policy"]["before"]:
            before, after = (report["policy"][role][key] for role in ("before", "after"))
            lines.append(f"  {name:<28}{before:11.3f}{after:10.3f}")
    lines.append(f"  {'win rate':<28}{'':11}{report['policy']['win_rate']:10.3f}")
    times = "  ".join(f"{name} {value:.0f} s" for name, value in report["seconds"].items())
    lines.append(f"Time  {times}")
    return "\n".join(lines)


def write_report(folder: str | Path, report: Mapping[str, Any]) -> None:
    """Writes ``report.json`` and the self-contained ``report.html`` into a run's folder."""
    folder = Path(folder)
    write_json(folder / "report.json", report)
    history = [dict(row.values) for row in read_rows(folder / "icm" / "history.jsonl")]
    rl = report["rl"]
    training = [dict(row.values) for row in read_rows(folder / rl / "history.jsonl")]
    answers = [dict(row.values) for row in read_rows(folder / "policy" / rl / "answers.jsonl")]
    settings = {
        name: read_json(folder / name / "settings.json")["settings"] for name in ("icm", rl)
    }
    body = "\n".join(
        [
            _head(report),
            _labels(report, history),
            _reward_models(report),
            _training(rl, training),
            _policy(report),
            _answers(answers),
            _settings(settings, report),
        ]
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>icm_rl report</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    write_text(folder / "report.html", page)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _cards(cards: Mapping[str, tuple[str, str]]) -> str:
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card">{escape(name)}<b>{escape(value)}</b>'
            f'<span class="muted">{escape(note)}</span></div>'
            for name, (value, note) in cards.items()
        )
        + "</div>"
    )


def _plots(pictures: Sequence[str], wide: bool = False) -> str:
    kind = "plots wide" if wide else "plots"
    return f'<div class="{kind}">' + "".join(f"<figure>{p}</figure>" for p in pictures) + "</div>"


def _head(report: Mapping[str, Any]) -> str:
    icm, policy = report["icm"], report["policy"]
    cards = {}
    if "label_accuracy" in icm:
        note = f"of {icm['examples']} examples, no label seen"
        cards["ICM labels right"] = (_percent(icm["label_accuracy"]), note)
    score = report["reward_model"]["icm"]["score"]
    cards["Reward model on ICM labels"] = (f"{score:.1f}", "RewardBench score, 0–100")
    if "gold_rate" in policy["after"]:
        before = f"before PPO {_percent(policy['before']['gold_rate'])}"
        cards["Policy's answers right"] = (_percent(policy["after"]["gold_rate"]), before)
    cards["Policy's win rate"] = (_percent(policy["win_rate"]), "by the reference reward model")
    return (
        "<h1>From unlabeled pairs to a trained policy</h1>"
        '<p class="muted">ICM labels preference pairs without any label, a reward model learns '
        "them, PPO trains a policy against it, and RewardBench's prompts score the result.</p>"
        + _cards(cards)
    )


def _labels(report: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    known = {name: report["icm"][key] for key, name in _LABELS.items() if key in report["icm"]}
    pictures = []
    if "ICM labels" in known:
        colors = [plots.COLORS["icm" if name == "ICM labels" else "other"] for name in known]
        values = {name: 100 * value for name, value in known.items()}
        pictures.append(plots.bars("Accuracy, percent", values, "", colors))
    curves = []
    for key, title in (
        ("utility", "U of the labeled set"),
        ("accuracy", "Accuracy of the labels so far"),
        ("inconsistencies", "Inconsistent pairs"),
        ("temperature", "Temperature"),
    ):
        x, middle, low, high = _over_pools(history, key)
        if x:
            curves.append(
                plots.line(f"{title} (mean of pools)", x, middle, "iteration", (low, high))
            )
    return (
        "<h2>1. Labels</h2><p>Each pool of examples is searched on its own; the band goes from the "
        "lowest pool to the highest. Gold labels are used here to measure, never in the search.</p>"
        + _plots(pictures)
        + "<p></p>"
        + _plots(curves)
    )


def _over_pools(history: Sequence[Mapping[str, Any]], key: str):
    """Mean, lowest and highest over the pools, by iteration."""
    by_iteration: dict[int, list[float]] = {}
    for record in history:
        if record.get(key) is not None:
            by_iteration.setdefault(record["iteration"], []).append(record[key])
    x = sorted(by_iteration)
    columns = [by_iteration[n] for n in x]
    return x, [sum(c) / len(c) for c in columns], list(map(min, columns)), list(map(max, columns))


def _reward_models(report: Mapping[str, Any]) -> str:
    models = report["reward_model"]
    sections = {
        name: {**model["sections"], "Score": model["score"]} for name, model in models.items()
    }
    pictures = [plots.grouped_bars("RewardBench accuracy by section, percent", sections, 100)]
    reliability = {name: m["reliability"] for name, m in models.items() if "reliability" in m}
    errors = ", ".join(
        f"{name} {_percent(models[name]['calibration_error'])}" for name in reliability
    )
    calibration = (
        f"<p>Expected calibration error on held-out pairs: {escape(errors)}.</p>"
        + _plots([plots.reliability("Reliability", reliability)])
        if reliability
        else ""
    )
    subsets = list(models["icm"]["subsets"])
    head = "".join(f'<th class="n">{escape(name)}</th>' for name in models)
    rows = "".join(
        f"<tr><td>{escape(subset)}</td>"
        + "".join(f'<td class="n">{m["subsets"][subset]:.1f}</td>' for m in models.values())
        + "</tr>"
        for subset in subsets
    )
    return (
        "<h2>2. Reward models</h2><p>The same base model, trained on the same pairs by labels "
        f"from: {escape(', '.join(models))}.</p>"
        + _plots(pictures, wide=True)
        + calibration
        + '<details><summary>By subset</summary><div class="scroll"><table><tr><th>subset</th>'
        f"{head}</tr>{rows}</table></div></details>"
    )


def _training(rl: str, history: Sequence[Mapping[str, Any]]) -> str:
    x = [record["episode"] for record in history]
    pictures = [
        plots.line(title, x, [record[key] for record in history], "episode")
        for key, title in (
            ("objective/scores", "Reward model's score"),
            ("objective/kl", "KL to the base model, nats an answer"),
            ("val/length", "Length, tokens an answer"),
        )
    ]
    return f"<h2>3. {rl.upper()}</h2>" + _plots(pictures)


def _policy(report: Mapping[str, Any]) -> str:
    sections = report["policy"]["sections"]
    pictures = []
    for key, title, limit in (
        ("gold_rate", "Right by the world's rules, share", 1),
        ("reference_reward", "Mean reward by the reference reward model", None),
    ):
        if key in sections["before"]:
            groups = {role: sections[role][key] for role in ("before", "after")}
            pictures.append(plots.grouped_bars(title, groups, limit))
    return "<h2>4. The policy before and after</h2>" + _plots(pictures, wide=True)


def _answers(answers: Sequence[Mapping[str, Any]], per_section: int = 12) -> str:
    step = max(1, len(answers) // per_section)
    rows = []
    for answer in answers[::step][:per_section]:
        cells = [f"<td>{escape(answer['prompt'])}</td>"]
        for given in answer["answers"].values():
            mark = {True: "yes", False: "no"}.get(given.get("accepted"), "")
            reward = next(iter(given["rewards"].values()))
            cells.append(f'<td class="{mark}">{escape(given["text"])}</td>')
            cells.append(f'<td class="n">{reward:.2f}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        "<h2>5. Answers</h2><p>Every so many-th prompt of the benchmark. Green: accepted by the "
        "world's rules; red: not.</p>"
        '<div class="scroll"><table class="answers"><tr><th>prompt</th>'
        '<th>before</th><th class="n">reward</th><th>after</th><th class="n">reward</th></tr>'
        f"{''.join(rows)}</table></div>"
    )


def _settings(settings: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any]) -> str:
    tables = "".join(
        f"<details><summary>Settings of {escape(stage)}</summary><table>"
        + "".join(
            f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>"
            for name, value in values.items()
        )
        + "</table></details>"
        for stage, values in settings.items()
    )
    times = ", ".join(f"{escape(name)} {value:.0f} s" for name, value in report["seconds"].items())
    return f"<h2>6. What was run</h2><p>Wall-clock time: {times}.</p>{tables}"
