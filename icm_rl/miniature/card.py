"""The miniature's model card: its training log and what was measured of it."""

from collections.abc import Mapping, Sequence
from math import isinf
from typing import Any

from transformers import PreTrainedModel

from icm_rl.miniature.evaluate import POOL_SIZE, Bar, Figures, bars
from icm_rl.miniature.pretrain import Stage

_SMOLLM2: Figures = {
    "right": {"zero-shot": 50, "random labels": 87, "gold labels": 92},
    "log_odds": {
        "gold labels": 1.5,
        "reversed labels": 0.0,
        "random labels": -0.1,
        "all False": 6.8,
        "all True": 6.9,
    },
}
"""Of 60 sentences of reviews, asked `Review: {text}\\nPositive:`."""


def model_card(
    model: PreTrainedModel,
    log: Sequence[Mapping[str, Any]],
    stages: Sequence[Stage],
    figures: Mapping[str, Figures],
    device: str,
    settings: Mapping[str, Any],
) -> str:
    """The card as Markdown.

    Args:
        model: The pretrained model.
        log: What ``pretrain`` returned.
        stages: Its stages.
        figures: What ``evaluate`` returned.
        device: What it was trained on.
        settings: The recipe's settings that decide.
    """
    parameters = model.num_parameters() / 1e6
    last = {entry["stage"]: entry for entry in log}
    tokens = sum(entry["tokens"] for entry in last.values()) / 1e6
    minutes = sum(entry["seconds"] for entry in last.values()) / 60
    stage_lines = "\n".join(
        f"| {number} | {stage.layers} | {stage.length:,} | {last[number]['tokens']:,} | "
        f"{stage.optimizer} | {stage.learning_rate} | {stage.judges} |"
        for number, stage in enumerate(stages, 1)
    )
    losses = "\n".join(
        f"| {entry['stage']} | {entry['tokens']:,} | {entry['loss']:.4f} | "
        f"{entry['label_loss']:.4f} |"
        for entry in _thinned(log)
    )
    flags = " ".join(f"--{k} {v}" for k, v in settings.items() if v is not None)
    asked = bars(figures)
    coherent = figures["preferences"]["log_odds"]
    trap = coherent["all False"] - coherent["gold labels"]
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The miniature

A Llama of {parameters:.2f} million parameters, pretrained from scratch on {tokens:.0f} million
tokens of an invented world (`icm_rl/miniature/world.py`, `corpus.py`). It stands in for a
pretrained base model: it knows the world, it has read many judges, and nobody told it which one is
meant. Byte-level BPE, each of the world's words one token, a chat template,
{model.config.max_position_embeddings:,} tokens of context.

Made by `python recipes/miniature.py {flags}` on {device}, whose training took
{minutes:.0f} minutes.

## What it can do

Freshly drawn pools of {POOL_SIZE} examples, mean of five seeds, by plain log-odds; many-shot
prompting leaves an example's group out. Made by the same command. SmolLM2-135M beside it, on 60
sentences of reviews.

Percent of predictions that are right, zero-shot and in the context of some labels:

{_table(figures, "right", 1)}

Mean log-odds in nats of labels in each other's contexts, what ICM maximizes:

{_table(figures, "log_odds", 2)}

Where everything has one label, real models are surest of all, SmolLM2 by 5 nats more than of gold
labels; this one by {trap:.2f} on preferences, where the contradictions between both orders of a
pair, 24 of them against α = 50, make up for 0.48. Against the rest there is only
that the search fixes a contradiction where it arises.

## What was asked

Of real base models it is known that demonstrations elicit what they know, whatever their labels,
and that they follow a reversed judge hardly at all. {sum(bar.met for bar in asked)} of
{len(asked)} bars are met.

| task | | found | asked | |
|---|---|---|---|---|
{_lines(asked)}

## Training

| stage | layers | row length | tokens | optimizer | learning rate | judges |
|---|---|---|---|---|---|---|
{stage_lines}

A stage with more layers than the one before starts from its weights, the added layers as the
identity. Muon updates the matrices inside the layers, AdamW the rest; bf16 autocast; a judge's
label weighs as much as ten other tokens. The first stage ends when the loss on labels is below
{stages[0].until}; in the last two the learning rate falls linearly to zero. `STAGES` in
`icm_rl/miniature/pretrain.py` has the rest, `JUDGES` in `corpus.py` who judges.

| stage | its tokens so far | loss | loss on labels |
|---|---|---|---|
{losses}
"""


def _table(figures: Mapping[str, Figures], kind: str, digits: int) -> str:
    """One kind of figures, a column a task; what was not measured of SmolLM2 is left empty."""
    columns = {**figures, "SmolLM2": _SMOLLM2}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name in next(iter(figures.values()))[kind]:
        found = [column[kind].get(name) for column in columns.values()]
        cells = ["" if value is None else f"{value:.{digits}f}" for value in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _lines(asked: Sequence[Bar]) -> str:
    return "\n".join(
        f"| {bar.task} | {bar.name} | {bar.found:.2f} | {_bounds(bar)} "
        f"| {'met' if bar.met else '**missed**'} |"
        for bar in asked
    )


def _bounds(bar: Bar) -> str:
    if isinf(bar.most):
        return f"at least {bar.least:.2f}"
    if isinf(bar.least):
        return f"at most {bar.most:.2f}"
    return f"{bar.least:.2f} to {bar.most:.2f}"


def _thinned(log: Sequence[Mapping[str, Any]], count: int = 40) -> list[Mapping[str, Any]]:
    step = max(1, len(log) // count)
    return [*log[::step], *log[-1:]] if (len(log) - 1) % step else list(log[::step])
