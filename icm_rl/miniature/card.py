"""The miniature's model card: its training log and what was measured of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from icm_rl.miniature.evaluate import POOL_SIZES
from icm_rl.miniature.pretrain import STAGES

_COMPETITORS = {
    "reverse": "the reverse",
    "length": "length",
    "manners": "manners",
    "always_true": "always True",
}


def model_card(
    model: PreTrainedModel,
    log: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Mapping[str, Mapping[str, float]]],
    device: str,
    seed: int,
) -> str:
    """The card as Markdown.

    Args:
        model: The pretrained model.
        log: What ``pretrain`` returned.
        figures: What ``evaluate`` returned.
        device: What it was trained on.
        seed: The seed.
    """
    parameters = model.num_parameters() / 1e6
    last = {entry["stage"]: entry for entry in log}
    tokens = sum(entry["tokens"] for entry in last.values()) / 1e6
    minutes = sum(entry["seconds"] for entry in last.values()) / 60
    stages = "\n".join(
        f"| {number} | {stage.layers} | {stage.length:,} | {last[number]['tokens']:,} | "
        f"{stage.optimizer} | {stage.learning_rate} | "
        f"{', '.join(f'{k} {v:.2f}' for k, v in stage.criteria.items())} |"
        for number, stage in enumerate(STAGES, 1)
    )
    losses = "\n".join(
        f"| {entry['stage']} | {entry['tokens']:,} | {entry['loss']:.4f} | "
        f"{entry['label_loss']:.4f} |"
        for entry in _thinned(log)
    )
    tasks = list(figures)
    head = " | ".join(f"{task} ({POOL_SIZES[task]})" for task in tasks)
    accuracies = "\n".join(
        f"| {name} | " + " | ".join(f"{100 * figures[t][table][key]:.1f}" for t in tasks) + " |"
        for name, table, key in (
            ("zero-shot", "baselines", "zero_shot"),
            ("many-shot, random labels", "baselines", "random_labels"),
            ("many-shot, gold labels", "many_shot", "truth"),
            *((f"many-shot, judged by {name}", "many_shot", k) for k, name in _COMPETITORS.items()),
            ("after 16 items, judged by length", "after_16", "length"),
            ("after 16 items, judged by the reverse", "after_16", "reverse"),
        )
    )
    utilities = "\n".join(
        f"| {name} | " + " | ".join(f"{figures[t]['utility'][key]:.1f}" for t in tasks) + " |"
        for key, name in {"truth": "gold", **_COMPETITORS}.items()
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# The miniature

A Llama of {parameters:.2f} million parameters, pretrained from scratch on {tokens:.0f} million
tokens of an invented world (`icm_rl/miniature/world.py`, `corpus.py`; seed {seed}). It stands in
for a pretrained base model: it knows the world, it has read judges of many criteria, and nobody
told it which criterion is meant. Byte-level BPE, each of the world's words one token, a chat
template, {model.config.max_position_embeddings:,} tokens of context.

Made by `python recipes/miniature.py --seed {seed}` on {device}, whose training took
{minutes:.0f} minutes.

## What it can do

Accuracy in percent on freshly drawn pools (their sizes in brackets), mean over 5 seeds; many-shot
prompting leaves an example's group out. Made by the same command.

| | {head} |
|---|{"---|" * len(tasks)}
{accuracies}

U (α = 50) of the labels by each criterion, on the same pools: what ICM maximizes.

| labels by | {head} |
|---|{"---|" * len(tasks)}
{utilities}

## Training

| stage | layers | row length | tokens | optimizer | learning rate | judges |
|---|---|---|---|---|---|---|
{stages}

A stage with more layers than the one before starts from its weights, the added layers as the
identity. Muon updates the matrices inside the layers, AdamW the rest; bf16 autocast; a judge's
label weighs as much as ten other tokens. The first stage ends when the loss on labels is below
{STAGES[0].until}; in the last two the learning rate falls linearly to zero. `STAGES` in
`icm_rl/miniature/pretrain.py` has the rest: kinds of documents, and how often a judge slips.

| stage | its tokens so far | loss | loss on labels |
|---|---|---|---|
{losses}
"""


def _thinned(log: Sequence[Mapping[str, Any]], count: int = 40) -> list[Mapping[str, Any]]:
    step = max(1, len(log) // count)
    return [*log[::step], *log[-1:]] if (len(log) - 1) % step else list(log[::step])
