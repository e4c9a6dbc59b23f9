"""Pretrain the miniature's base model from scratch and write its model card.

    python recipes/miniature.py --output_dir runs/miniature

Trains a tokenizer and a Llama of about four million parameters on the corpus of an invented world,
then measures what the model can do. Continues where it was stopped. The shipped model in
icm_rl/miniature/model is a copy of what this wrote into OUTPUT_DIR/model; smaller ones, and ones
that have not seen some claims judged, are what it is compared with.
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
from accelerate import Accelerator
from annotated_types import Ge
from transformers import AutoTokenizer

from icm_rl.files import open_stage, write_text
from icm_rl.miniature.card import model_card
from icm_rl.miniature.evaluate import evaluate
from icm_rl.miniature.pretrain import STAGES, pretrain
from icm_rl.miniature.tokenizer import train_tokenizer
from icm_rl.miniature.world import Split, World
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.terminal import say


@dataclass
class MiniatureConfig:
    """Pretraining of the miniature's base model."""

    output_dir: str = field(
        default="runs/miniature", metadata={"help": "Folder for checkpoints and the model."}
    )
    seed: int = field(default=0, metadata={"help": "Draws the world, its corpus and the weights."})
    layers: Annotated[int, Ge(1)] = field(
        default=8, metadata={"help": "Layers of the model at most, in every stage."}
    )
    unjudged: Split | None = field(
        default=None,
        metadata={"help": "Split of the world's queries of which nothing is judged, only told."},
    )


def main() -> None:
    (config,) = parse([MiniatureConfig])
    folder = Path(config.output_dir)
    settings = {"seed": config.seed, "layers": config.layers, "unjudged": config.unjudged}
    open_stage(folder, settings, {})
    done = folder / "model"
    if done.exists():
        say(f"{done}: complete, nothing to do")
        return
    accelerator = Accelerator(mixed_precision="bf16")
    world = World(config.seed)
    if not (folder / "tokenizer").exists():
        train_tokenizer(world, config.seed).save_pretrained(folder / "tokenizer.new")
        (folder / "tokenizer.new").rename(folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    stages = [replace(stage, layers=min(stage.layers, config.layers)) for stage in STAGES]
    model, log = pretrain(
        accelerator, tokenizer, world, stages, folder, config.seed, config.unjudged
    )
    model = model.bfloat16().eval()
    new = folder / "model.new"
    model.save_pretrained(new)
    tokenizer.save_pretrained(new)
    figures = evaluate(world, model, tokenizer)
    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    )
    card = model_card(model, log, stages, figures, device, settings)
    write_text(new / "README.md", card)
    new.rename(done)
    say(card)


if __name__ == "__main__":
    run(main)
