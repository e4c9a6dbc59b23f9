"""Pretrains the miniature's base model from scratch, in stages of longer documents."""

import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from icm_rl.files import read_json, write_json
from icm_rl.miniature import corpus
from icm_rl.miniature.tokenizer import CONTEXT, PHRASES
from icm_rl.miniature.world import World
from icm_rl.progress import Progress

LABEL_WEIGHT = 10.0
TOKENS_PER_STEP = 4096
WARMUP_STEPS = 50
LOG_STEPS = 50
SAVE_STEPS = 250


@dataclass(frozen=True)
class Stage:
    """One stretch of pretraining, with an optimizer of its own.

    Attributes:
        layers: Layers of the model; those that it has more than before start as the identity.
        length: Tokens in a row.
        tokens: Tokens in all.
        optimizer: ``muon`` (AdamW still for embeddings and norms) or ``adamw``.
        learning_rate: Constant after the warm-up, or where ``decay`` is set falling to zero.
        decay: Whether it falls, linearly.
        documents: Shares of the kinds of documents.
        judges: Who judges its lists, one of ``corpus.JUDGES``.
        led: Share of the rows of judged lists that a lone claim leads, so that what stands first in
            a row, as it does at zero shot, is mostly a lone claim.
        until: Loss on the labels, over 50 steps, at which the stage ends before its tokens do.
    """

    layers: int
    length: int
    tokens: int
    optimizer: str
    learning_rate: float
    decay: bool = False
    documents: Mapping[str, float] = field(default_factory=lambda: corpus.DOCUMENTS)
    judges: str = "usual"
    led: float = 0.0
    until: float = 0.0


_LAST_DOCUMENTS = {"list": 0.55, "dialogue": 0.10, "statements": 0.05, "lone_claim": 0.30}

STAGES = (
    Stage(
        6,
        384,
        30_000_000,
        "muon",
        4e-3,
        documents={"list": 0.80, "dialogue": 0.05, "statements": 0.13, "lone_claim": 0.02},
        judges="certain",
        until=0.2,
    ),
    Stage(
        8,
        384,
        8_000_000,
        "adamw",
        1e-3,
        documents={"list": 0.80, "dialogue": 0.05, "statements": 0.10, "lone_claim": 0.05},
        judges="extreme",
    ),
    Stage(8, 1024, 4_000_000, "adamw", 1e-3, judges="extreme"),
    Stage(8, 1024, 5_000_000, "adamw", 1e-3, judges="varied"),
    Stage(
        8,
        2048,
        5_000_000,
        "adamw",
        1e-3,
        decay=True,
        documents=_LAST_DOCUMENTS,
        judges="varied",
        led=0.75,
    ),
    Stage(8, 2048, 3_000_000, "adamw", 1e-3, decay=True, documents=_LAST_DOCUMENTS, led=0.75),
)
"""Certain judges first, in few layers: where judges differ, a model this small does not find what
is true. The layers added after that have room to read from the context who judges, which extreme
judges make worth the while; varied ones and at last the usual ones bring the prior of who that
is."""


def new_model(tokenizer: PreTrainedTokenizerBase, layers: int, seed: int) -> LlamaForCausalLM:
    """A randomly initialised Llama, 192 wide: 3.7 million parameters in 8 layers."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=(len(tokenizer) + 7) // 8 * 8,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=layers,
        num_attention_heads=3,
        num_key_value_heads=3,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


class Rows(Dataset):
    """Rows of exactly ``length`` tokens, each made from its index alone, so that any can be redone.

    A row is either one judged list that fills it, or short documents one after the other. Each
    document begins with the beginning-of-sequence token.

    Args:
        world: What the documents are about.
        tokenizer: Makes tokens of them.
        stage: Which documents, and of which length.
        seed: Draws them.
        unjudged: The split of the world of which nothing is judged, only told.
    """

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerBase,
        stage: Stage,
        seed: str,
        unjudged: str | None = None,
    ):
        self.world, self.tokenizer, self.stage = world, tokenizer, stage
        self.judged = world if unjudged is None else world.without(unjudged)
        self.length, self.seed = stage.length, seed
        self.batch = max(1, TOKENS_PER_STEP // stage.length)
        self.labels = {tokenizer.encode(f" {label}")[0] for label in (True, False)}
        self.cues = set(tokenizer.convert_tokens_to_ids([PHRASES[2], PHRASES[-1]]))

    def __len__(self) -> int:
        return self.stage.tokens // (self.batch * self.length) * self.batch

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self.seed} {index}")
        kind = corpus.weighted(rng, self.stage.documents)
        ids: list[int] = []
        if kind == "list":
            if rng.random() < self.stage.led:
                ids = self._document("lone_claim", rng)
            items = self.length // 20
            ids += self._encode(corpus.judged_list(self.judged, rng, items, self.stage.judges))
        while len(ids) < self.length:
            short = {k: v for k, v in self.stage.documents.items() if k != "list"}
            ids += self._document(corpus.weighted(rng, short), rng)
        ids = ids[: self.length]
        weights = [1.0] * self.length
        for position in range(1, self.length):
            if ids[position] in self.labels and ids[position - 1] in self.cues:
                weights[position] = LABEL_WEIGHT
        return {"input_ids": torch.tensor(ids), "weights": torch.tensor(weights)}

    def _encode(self, text: str) -> list[int]:
        return [self.tokenizer.bos_token_id, *self.tokenizer.encode(text, add_special_tokens=False)]

    def _document(self, kind: str, rng: random.Random) -> list[int]:
        if kind == "dialogue":
            messages = corpus.dialogue(self.world, rng)
            return self.tokenizer.apply_chat_template(messages, return_dict=False)
        if kind == "lone_claim":
            return self._encode(corpus.lone_claim(self.judged, rng))
        return self._encode(corpus.statements(self.world, rng))


def losses(
    logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next-token loss, and the part of it that the judges' labels have.

    Args:
        logits: (batch, time, vocabulary).
        ids: The row's tokens, (batch, time).
        weights: Each token's weight, (batch, time): ten for a judge's label, one for any other.

    Returns:
        The weighted mean over all tokens, and the mean over labels.
    """
    each = cross_entropy(
        logits[:, :-1].float().transpose(1, 2), ids[:, 1:], reduction="none"
    )  # (batch, time - 1)
    weights = weights[:, 1:]
    labels = each[weights > 1]
    return (each * weights).sum() / weights.sum(), labels.mean() if len(labels) else each.new_zeros(
        ()
    )


def grown(model: LlamaForCausalLM, layers: int) -> LlamaForCausalLM:
    """The same function in more layers: each added one begins by adding nothing."""
    before = model.config.num_hidden_layers
    if layers == before:
        return model
    config = LlamaConfig(**model.config.to_dict() | {"num_hidden_layers": layers})
    deeper = LlamaForCausalLM(config)
    deeper.load_state_dict(model.state_dict(), strict=False)
    for layer in deeper.model.layers[before:]:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return deeper


def optimizers(model: PreTrainedModel, name: str) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon, at AdamW's scale, for the weight matrices inside the layers."""
    if name == "adamw":
        return [torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)]
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for key, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in key
        (matrices if is_matrix else others).append(parameter)
    muon = torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.01)]


def pretrain(
    accelerator: Accelerator,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    stages: Sequence[Stage],
    output_dir: Path,
    seed: int,
    unjudged: str | None = None,
) -> tuple[LlamaForCausalLM, list[dict]]:
    """Trains a new model through all stages, or on from the last checkpoint in ``output_dir``.

    Returns:
        The model, and the training log: stage, tokens so far, seconds so far, loss and loss on
        labels, every 50 steps.
    """
    model = new_model(tokenizer, stages[0].layers, seed)
    log: list[dict] = []
    for number, stage in enumerate(stages, 1):
        folder = output_dir / f"stage-{number}"
        if not (folder / "model").exists():
            torch.manual_seed(seed)
            rows = Rows(world, tokenizer, stage, f"{seed} {number}", unjudged)
            name = f"stage {number}/{len(stages)}"
            model, own = _train(accelerator, grown(model, stage.layers), rows, folder, name)
            model.save_pretrained(folder / "new")
            write_json(folder / "log.json", own)
            (folder / "new").rename(folder / "model")
        model = LlamaForCausalLM.from_pretrained(folder / "model")
        log += [{"stage": number} | entry for entry in read_json(folder / "log.json")]
    return model, log


def _train(
    accelerator: Accelerator, model: LlamaForCausalLM, rows: Rows, folder: Path, name: str
) -> tuple[LlamaForCausalLM, list[dict]]:
    """Trains through one stage, or on from its checkpoint."""
    stage, checkpoint = rows.stage, folder / "checkpoint"
    model, *both = accelerator.prepare(model, *optimizers(model, stage.optimizer))
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "log": []}
    if checkpoint.exists():
        accelerator.load_state(str(checkpoint))
        state = read_json(checkpoint / "state.json")
    start = time.monotonic() - state["seconds"]
    steps, batch = len(rows) // rows.batch, rows.batch
    progress = Progress(name, steps, state["step"], "step")
    recent: list[tuple[float, float]] = []
    for inputs in DataLoader(rows, batch, sampler=range(state["step"] * batch, steps * batch)):
        ids = inputs["input_ids"].to(accelerator.device)
        loss, label_loss = losses(
            model(input_ids=ids).logits, ids, inputs["weights"].to(ids.device)
        )
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        scale = 1 - state["step"] / steps if stage.decay else 1.0
        scale *= min(1.0, (state["step"] + 1) / WARMUP_STEPS)
        for optimizer in both:
            for group in optimizer.param_groups:
                group["lr"] = stage.learning_rate * scale
            optimizer.step()
            optimizer.zero_grad()
        state["step"] += 1
        recent.append((loss.item(), label_loss.item()))
        progress.advance(loss=recent[-1][0], label_loss=recent[-1][1])
        if state["step"] % LOG_STEPS == 0:
            state["seconds"] = time.monotonic() - start
            means = [sum(column) / len(recent) for column in zip(*recent, strict=True)]
            recent = []
            state["log"].append(
                {
                    "tokens": state["step"] * batch * stage.length,
                    "seconds": round(state["seconds"]),
                    "loss": round(means[0], 4),
                    "label_loss": round(means[1], 4),
                }
            )
            if means[1] < stage.until:
                break
        if state["step"] % SAVE_STEPS == 0:
            _save(accelerator, checkpoint, state)
    progress.close()
    accelerator.free_memory()  # a checkpoint of the next stage is of its own model alone
    return accelerator.unwrap_model(model), state["log"]


def _save(accelerator: Accelerator, checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint; the old one stays whole until the new one is."""
    new = checkpoint.with_name("checkpoint.new")
    shutil.rmtree(new, ignore_errors=True)
    accelerator.save_state(str(new))
    write_json(new / "state.json", state)
    shutil.rmtree(checkpoint, ignore_errors=True)
    new.rename(checkpoint)
