"""The section of a run's page about the training of its policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from icm_rl.files import read_json
from icm_rl.report import charts
from icm_rl.report.page import Figure, Section
from icm_rl.rewardbench.policy import episode_of


def training_section(rl: str, updates: Sequence[Mapping[str, Any]], folder: Path) -> Section:
    """What a policy's training was like.

    Args:
        rl: How it was trained, ``ppo`` or ``grpo``.
        updates: The run's history.
        folder: The run's folder.
    """
    figures = []
    events = _events(updates, folder)
    for key, title, unit, look in (
        (
            "objective/scores",
            "Reward model's score",
            "score",
            "It should climb and level off; a climb without end may be reward hacking.",
        ),
        (
            "objective/kl",
            "KL to the base model",
            "nats an answer",
            "The price of the score: how far the policy has moved from the base model.",
        ),
        (
            "val/length",
            "Length of the answers",
            "tokens",
            "A steady climb with the score says that the reward model likes length.",
        ),
        (
            "val/score_by_length",
            "Score with length",
            "correlation within an update",
            "Near 0 where answers are not paid for their length.",
        ),
        (
            "val/distinct",
            "Distinct answers",
            "share",
            "A fall says that the policy gives one answer to many prompts.",
        ),
        (
            "val/ended",
            "Answers that end by themselves",
            "share",
            "The others were cut at the limit of length.",
        ),
        (
            "eval/scores",
            "Score on held-out prompts",
            "score",
            "It should follow the score; the best policy by it is kept.",
        ),
    ):
        points = [(u["episode"], u[key]) for u in updates if key in u]
        if points:
            spec = charts.lines(title, "episode", unit, {"policy": points}, (), events)
            figures.append(Figure(spec, look))
    return Section(
        "training",
        f"3. {rl.upper()}",
        "Did the policy learn what the reward model likes, and at what distance from where it "
        "began? Dashed lines are events; hovering names them.",
        figures,
    )


def _events(updates: Sequence[Mapping[str, Any]], folder: Path) -> list[tuple[float, str]]:
    """What happened to a run, by episode: what was saved and is still there, and an early end."""
    saved = [*folder.glob("checkpoint-*"), *folder.glob("policy-*")]
    events = [(float(episode), path.name) for path in saved if (episode := episode_of(path))]
    settings, last = read_json(folder / "settings.json")["settings"], updates[-1]
    ends = (
        ("max_kl", "objective/kl", "the KL exceeded {:g}"),
        ("max_loss", "eval/lost", "the watched reward lost {:.0%} of its gain"),
    )
    for setting, key, words in ends:
        most = settings.get(setting)
        if most is not None and last.get(key, 0) > most:
            events.append((last["episode"], f"ended: {words.format(most)}"))
    return sorted(events)
