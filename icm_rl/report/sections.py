"""The page of a run, section by section."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from icm_rl.data import read_rows
from icm_rl.files import read_json
from icm_rl.pipeline import policy_folders
from icm_rl.report import charts
from icm_rl.report.names import LABEL_FIGURES, signal_rows
from icm_rl.report.page import Card, Figure, Page, Section, Table
from icm_rl.report.training import training_section
from icm_rl.tasks.base import Messages

_JUDGE = "zero-shot judge"
_CONFIDENT = "zero-shot judge, more confident order"
_LENGTHS = {
    "shorter": "chosen is shorter",
    "as long": "about as long",
    "longer": "chosen is longer",
}


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def audit_sentence(audit: Mapping[str, Any]) -> str:
    """What an audit says, in words."""
    low, high = audit["interval"]
    return (
        f"A person judged {audit['answered']} labels drawn at random and agreed with "
        f"{audit['agreed']}: {_percent(audit['agreement'])} (95 % interval {100 * low:.1f}–"
        f"{100 * high:.1f} %)."
    )


def run_page(folder: Path, report: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Page:
    """What a run's page shows.

    Args:
        folder: The run's folder.
        report: What ``collect`` gathered.
        history: The iterations of the labeling.
    """
    training, scoring = policy_folders(report["rl"], report["label_source"])
    updates = [dict(row.values) for row in read_rows(folder / training / "history.jsonl")]
    answers = [dict(row.values) for row in read_rows(folder / scoring / "answers.jsonl")]
    settings = {
        name: read_json(folder / name / "settings.json")["settings"] for name in ("icm", training)
    }
    return Page(
        "From unlabeled data to a trained policy",
        f"A base model labels the data {report['icm']['method_summary']}; a reward model "
        f"learns them, {report['rl'].upper()} trains a policy against the reward model of the "
        f"{report['label_source']} labels, and the benchmark's prompts score the result.",
        [
            _labels(report, history),
            _reward_models(report),
            training_section(report["rl"], updates, folder / training),
            _policy(report, answers),
            Section(
                "browse",
                "5. Every label",
                "Look at the least sure labels and at groups that disagree first: there the model "
                "may have understood something else than you meant. Words that only one of two "
                "responses has are marked.",
                browser=True,
            ),
            _settings(settings, report),
        ],
        _cards(report),
        audit_sentence(report["audit"]) if "audit" in report else "",
    )


def _cards(report: Mapping[str, Any]) -> list[Card]:
    icm, policy, cards = report["icm"], report["policy"], []
    if "label_accuracy" in icm:
        of = f"{icm['examples']:,} examples"
        known = sum(icm["gold_labels"].values()) if "gold_labels" in icm else icm["examples"]
        if known < icm["examples"]:
            of = f"the {known:,} of {of} with a gold label"
        note = f"of {of}, labeled by {icm['method']}"
        cards.append(Card("ICM labels right", _percent(icm["label_accuracy"]), note))
    if "forecast" in icm:
        found = icm["forecast"]
        low, high = 100 * found["low"], 100 * found["high"]
        note = f"90 % interval {low:.0f}–{high:.0f} %: {found['verdict']}"
        if found["verdict"] == "look first":
            note += f"; judge {found['to_audit']} of them yourself, below"
        cards.append(Card("Right, forecast without gold labels", _percent(found["accuracy"]), note))
    if "audit" in report:
        note = f"of {report['audit']['answered']} labels that a person judged"
        cards.append(Card("Audited", _percent(report["audit"]["agreement"]), note))
    model = report["reward_model"]["icm"]
    low, high = model["intervals"]["score"]
    note = f"benchmark score, 95 % interval {low:.1f}–{high:.1f}"
    cards.append(Card("Reward model on ICM labels", f"{model['score']:.1f}", note))
    if "gold_rate" in policy["after"]:
        note = f"before {report['rl'].upper()} {_percent(policy['before']['gold_rate'])}"
        cards.append(
            Card("Policy's answers accepted", _percent(policy["after"]["gold_rate"]), note)
        )
    low, high = (100 * bound for bound in policy["intervals"]["win_rate"])
    note = f"by the reference reward model, 95 % interval {low:.1f}–{high:.1f} %"
    cards.append(Card("Policy's win rate", _percent(policy["win_rate"]), note))
    return cards


def _labels(report: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Section:
    known = {
        name: report["icm"][key] for key, name in LABEL_FIGURES.items() if key in report["icm"]
    }
    figures = []
    if "ICM labels" in known:
        values = {name: 100 * value for name, value in known.items()}
        figures.append(
            Figure(
                charts.bars("Accuracy of labels", "percent right", values, "ICM labels"),
                "ICM should reach the gold labels' many-shot prompting without having seen one; "
                "zero-shot is where the same model starts.",
            )
        )
    events = _collapses(history)
    for key, title, unit, look in (
        (
            "utility",
            "U of the labeled set",
            "U",
            "It should climb and then stay; a pool far below the others is stuck.",
        ),
        (
            "accuracy",
            "Accuracy of the labels so far",
            "share right",
            "It should climb with U; where U climbs and this falls, the model coheres in an error.",
        ),
        (
            "inconsistencies",
            "Inconsistent pairs",
            "pairs",
            "It should end at 0.",
        ),
        (
            "accepted",
            "Proposals accepted",
            "share",
            "High while hot, low when the labels have settled; low from the start: α is too high.",
        ),
        (
            "temperature",
            "Temperature",
            "T",
            "It decides how often a change for the worse is accepted.",
        ),
    ):
        points = _over_pools(history, key)
        if points:
            mean = {"mean of pools": [(x, y) for x, y, _, _ in points]}
            band = [(x, low, high) for x, _, low, high in points]
            shown = () if key == "accepted" else band
            marked = events if key == "utility" else ()
            spec = charts.lines(title, "iteration", unit, mean, shown, marked)
            figures.append(Figure(spec, look))
    rows = [[name, 100 * value] for name, value in known.items()]
    return Section(
        "labels",
        "1. Labels",
        f"Are the labels right, and did the method {report['icm']['method']} settle? Each pool of "
        "examples is searched on its own; bands go from the lowest pool to the highest. Gold "
        "labels measure, and are never seen by the search.",
        figures,
        [
            *([Table("Accuracy, percent", ["labels", "right"], rows)] if rows else []),
            *([_confusion(report["icm"]["confusion"])] if "confusion" in report["icm"] else []),
            *([_signals(report["icm"]["signals"])] if "signals" in report["icm"] else []),
            *([_surface(report["icm"]["surface"])] if "surface" in report["icm"] else []),
        ],
    )


def _confusion(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """How many of each gold label got which."""
    names = sorted({name for row in counts.values() for name in row} | counts.keys())
    rows = [[label, *(row.get(name, 0) for name in names)] for label, row in counts.items()]
    return Table("Labels found of each gold label", ["gold", *names], rows)


def _signals(found: Mapping[str, float]) -> Table:
    """What the model's answers say of the labels, whoever is right."""
    return Table(
        "What the model says of the labels, without gold ones; of a concept that it knows it says "
        "the same after any demonstrations",
        ["up to 48 examples, asked after those of other prompts", "found"],
        list(signal_rows(found).items()),
        folded=True,
    )


def _surface(found: Mapping[str, Any]) -> Table:
    """Of which features the labels may be."""
    gold = found.get("gold_accuracy")
    beside = "" if gold is None else f", of gold labels {_percent(gold)}"
    return Table(
        f"Simple features tell {_percent(found['accuracy'])} of the labels of other prompts "
        f"(chance {_percent(found['chance'])}{beside}); where that is much, the labels may be of "
        "these",
        ["feature", "weight for the first label"],
        [[name, weight] for name, weight in found["features"].items()],
        folded=True,
    )


def _over_pools(
    history: Sequence[Mapping[str, Any]], key: str
) -> list[tuple[int, float, float, float]]:
    """Iteration, mean, lowest and highest over the pools."""
    by_iteration: dict[int, list[float]] = {}
    for record in history:
        if record.get(key) is not None:
            by_iteration.setdefault(record["iteration"], []).append(float(record[key]))
    return [(n, fmean(v), min(v), max(v)) for n, v in sorted(by_iteration.items())]


def _collapses(history: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Where a pool's labels became one label for all of its examples, from when on it stayed so."""
    labels: dict[int, dict[str, Any]] = {}
    since: dict[int, int] = {}
    for record in history:
        pool = labels.setdefault(record["pool"], {})
        pool.update(record.get("changes", {}))
        if len(set(pool.values())) > 1 or len(pool) < 2:
            since.pop(record["pool"], None)
        else:
            since.setdefault(record["pool"], record["iteration"])
    return [(at, f"pool {pool + 1} has one label from here on") for pool, at in since.items()]


def model_bars(model: Mapping[str, Any]) -> charts.Bars:
    """A reward model's or judge's accuracy by section, and its score."""
    intervals = model["intervals"]
    sections = {s: (value, intervals["sections"][s]) for s, value in model["sections"].items()}
    return {**sections, "Score": (model["score"], intervals["score"])}


def policy_bars(policy: Mapping[str, Any], role: str, key: str) -> charts.Bars:
    """A figure of the policy, ``before`` or ``after``, by section and over all prompts."""
    sections = {s: (value, None) for s, value in policy["sections"][role][key].items()}
    return {**sections, "All": (policy[role][key], policy["intervals"][role][key])}


def _reward_models(report: Mapping[str, Any]) -> Section:
    models = report["reward_model"]
    judges = {_JUDGE: report["judge"], _CONFIDENT: report["judge"]["more_confident_order"]}
    scored = {**models, _CONFIDENT: judges[_CONFIDENT]}
    groups = {name: model_bars(model) for name, model in scored.items()}
    figures = [
        Figure(
            charts.grouped_bars("Accuracy on the benchmark by section", "percent right", groups),
            "ICM's bars should stand with gold's, above human's and the judge's, which is the base "
            "model itself; where intervals overlap, these rows cannot tell the models apart.",
        )
    ]
    known = {name: m["reliability"] for name, m in models.items() if "reliability" in m}
    if known:
        figures.append(
            Figure(
                charts.reliability("Reliability on held-out pairs", known),
                "Below the dashed line a model is surer than it is right; above, less sure.",
            )
        )
    subsets = list(models["icm"]["subsets"])
    by_subset = [[s, *(m["subsets"].get(s, "") for m in models.values())] for s in subsets]
    scores = [
        [
            name,
            model["score"],
            "{:.1f}–{:.1f}".format(*model["intervals"]["score"]),
            100 * model["accuracy"] if "accuracy" in model else "",
            100 * model["calibration_error"] if "calibration_error" in model else "",
        ]
        for name, model in {**models, **judges}.items()
    ]
    lengths = [
        [name, words, found["rows"], found["accuracy"], "{:.1f}–{:.1f}".format(*found["interval"])]
        for name, model in models.items()
        for key, words in _LENGTHS.items()
        if (found := model.get("by_length", {}).get(key))
    ]
    head = [
        "labels or judge",
        "score",
        "95 % interval",
        "held-out pairs right, %",
        "calibration error, %",
    ]
    return Section(
        "reward-models",
        "2. Reward models",
        "Does the reward model of ICM's labels judge as well as that of gold labels? All are the "
        "same base model, trained on the same pairs by other labels.",
        figures,
        [
            Table("Score on the benchmark", head, scores),
            Table(
                "Accuracy by length: a model that is right only where the chosen answer is longer "
                "has learned to like length",
                ["labels", "rows where", "rows", "accuracy", "95 % interval"],
                lengths,
                folded=True,
            ),
            Table("Accuracy by subset", ["subset", *models], by_subset, folded=True),
        ],
    )


def _policy(report: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> Section:
    policy, figures = report["policy"], []
    for key, title, unit, look in (
        (
            "gold_rate",
            "Accepted by the rule",
            "share accepted",
            "What the reward model could not have told the policy in so many words.",
        ),
        (
            "reference_reward",
            "Reward by the reference reward model",
            "mean reward",
            "After should stand above before in every section; the reference model was not "
            "trained against.",
        ),
    ):
        if key in policy["before"]:
            groups = {role: policy_bars(policy, role, key) for role in ("before", "after")}
            figures.append(Figure(charts.grouped_bars(title, unit, groups), look))
    rows = []
    for key, name in (
        ("gold_rate", "accepted by the rule, 0–1"),
        ("reference_reward", "reward by the reference reward model"),
        ("length", "words an answer"),
        ("distinct_2", "distinct-2: how much the answers vary, 0–1"),
        ("refused_harmful", "harmful prompts refused, 0–1"),
        ("refused_harmless", "harmless prompts refused, 0–1"),
    ):
        if key in policy["before"]:
            rows.append([name, policy["before"][key], policy["after"][key]])
    rows.append(["win rate, 0–1", "", policy["win_rate"]])
    rows.append(["length-controlled win rate, 0–1", "", policy["length_controlled_win_rate"]])
    return Section(
        "policy",
        "4. The policy before and after",
        "Is the policy better by a judge that it was not trained against, and not only longer? "
        "Green answers are accepted by the rule, red ones not.",
        figures,
        [Table("On the benchmark's prompts", ["", "before", "after"], rows), _answers(answers)],
    )


def _answers(answers: Sequence[Mapping[str, Any]], most: int = 12) -> Table:
    step, rows = max(1, len(answers) // most), []
    for answer in answers[::step][:most]:
        cells: list[Any] = [_last_turn(answer["prompt"])]
        for given in answer["answers"].values():
            mark = {True: "yes", False: "no"}.get(given.get("accepted"), "")
            cells += [{"text": given["text"], "mark": mark}, next(iter(given["rewards"].values()))]
        rows.append(cells)
    head = ["prompt", "before", "reward", "after", "reward"]
    return Table("Answers to every so many-th prompt", head, rows)


def _last_turn(prompt: str | Messages) -> str:
    """A prompt's last message, with the number of those before it."""
    if isinstance(prompt, str):
        return prompt
    earlier = f"[{len(prompt) - 1} earlier] " if len(prompt) > 1 else ""
    return earlier + prompt[-1]["content"]


def _settings(settings: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any]) -> Section:
    memory = report["peak_memory"]
    took = [[part, value, memory.get(part, "")] for part, value in report["seconds"].items()]
    tables = [Table("What the stages took", ["stage", "seconds", "peak memory, GiB"], took)]
    for stage, values in settings.items():
        rows = [[name, str(value)] for name, value in values.items()]
        tables.append(Table(f"Settings of {stage}", ["setting", "value"], rows, folded=True))
    return Section("run", "6. What was run", "What it took, and all that decided it.", (), tables)
