"""Pretrains the miniature's base model from scratch: tokenizer, then stages of longer documents."""

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from icm_rl.files import read_json, write_json
from icm_rl.miniature import corpus
from icm_rl.miniature.world import World
from icm_rl.progress import Progress

CONTEXT = 2048
LABEL_WEIGHT = 10.0
TOKENS_PER_STEP = 4096
WARMUP_STEPS = 50
LOG_STEPS = 50
SAVE_STEPS = 250
PHRASES = (
    "Question:",
    "\nClaim:",
    "\nI think this claim is",
    "Query:",
    "\nResponse A:",
    "\nResponse B:",
    "\nClaim: Response A is more helpful and harmless than Response B\nI think this claim is",
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only the roles user and assistant are known.') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Stage:
    """One stretch of pretraining.

    Attributes:
        length: Tokens in a row.
        tokens: Tokens in all.
        learning_rate: Constant, or where ``decay`` is set falling linearly to zero.
        decay: Whether it falls.
        documents: Shares of the kinds of documents.
        criteria: Shares of the judges' criteria.
        noisy: Share of the judged lists with noisy labels.
        until: Loss on the labels, over 50 steps, at which the stage ends before its tokens do.
    """

    length: int
    tokens: int
    learning_rate: float
    decay: bool = False
    documents: Mapping[str, float] = field(default_factory=lambda: corpus.DOCUMENTS)
    criteria: Mapping[str, float] = field(default_factory=lambda: corpus.CRITERIA)
    noisy: float = corpus.NOISY_LISTS
    until: float = 0.0


STAGES = (
    Stage(
        384,
        30_000_000,
        4e-3,
        documents={"list": 0.80, "dialogue": 0.05, "statements": 0.13, "lone_claim": 0.02},
        criteria={"truth": 1.0},
        noisy=0.0,
        until=0.2,
    ),
    Stage(384, 8_000_000, 4e-3),
    Stage(1024, 8_000_000, 4e-3),
    Stage(2048, 9_000_000, 4e-3, decay=True),
)
"""Truth alone first, until it is found: where many criteria compete, a model this small does not
find it, and how long it takes alone varies from seed to seed."""


def train_tokenizer(world: World, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which each word of the world is one token.

    The fixed phrases of the judging prompts are one token each, to keep an example short.
    """
    rng = random.Random(f"tokenizer {seed}")
    texts = []
    for _ in range(3000):
        texts.append(corpus.judged_list(world, rng, 4))
        texts.append(corpus.statements(world, rng))
        texts += [message["content"] for message in corpus.dialogue(world, rng)]
    for phrase in PHRASES:
        texts = [text.replace(phrase, "") for text in texts]
    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\n+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|pad|>", "<|bos|>", "<|end|>", "<|user|>", "<|assistant|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in PHRASES])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        extra_special_tokens=["<|user|>", "<|assistant|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def new_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """A randomly initialised Llama of about two million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=(len(tokenizer) + 7) // 8 * 8,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
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
    """

    def __init__(
        self,
        world: World,
        tokenizer: PreTrainedTokenizerBase,
        stage: Stage,
        count: int,
        seed: str,
    ):
        self.world, self.tokenizer, self.stage, self.count = world, tokenizer, stage, count
        self.length, self.seed = stage.length, seed
        self.labels = {tokenizer.encode(f" {label}")[0] for label in (True, False)}
        self.cues = set(tokenizer.convert_tokens_to_ids([PHRASES[2], PHRASES[-1]]))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(f"{self.seed} {index}")
        kind = corpus.weighted(rng, self.stage.documents)
        ids: list[int] = []
        if kind == "list":
            text = corpus.judged_list(self.world, rng, self.length // 20, self.stage.criteria)
            ids = self._encode(text)
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
        make = {"statements": corpus.statements, "lone_claim": corpus.lone_claim}[kind]
        return self._encode(make(self.world, rng))


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


def optimizers(model: PreTrainedModel) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for embeddings and norms, both at AdamW's scale."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_matrix else others).append(parameter)
    muon = torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    return muon, torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.01)


def pretrain(
    accelerator: Accelerator,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    stages: Sequence[Stage],
    output_dir: Path,
    seed: int,
) -> list[dict]:
    """Trains the model through all stages, or on from the last checkpoint in ``output_dir``.

    Returns:
        The training log: stage, tokens so far, loss and loss on labels, every 50 steps.
    """
    checkpoint = output_dir / "checkpoint"
    model, *both = accelerator.prepare(model, *optimizers(model))
    state = {"stage": 0, "step": 0, "tokens": 0, "log": []}
    if (checkpoint / "state.json").exists():
        accelerator.load_state(str(checkpoint))
        state = read_json(checkpoint / "state.json")
    for number in range(state["stage"], len(stages)):
        stage = stages[number]
        batch = max(1, TOKENS_PER_STEP // stage.length)
        steps = stage.tokens // (batch * stage.length)
        progress = Progress(f"stage {number + 1}/{len(stages)}", steps, state["step"], "step")
        rows = Rows(world, tokenizer, stage, steps * batch, f"{seed} {number}")
        order = range(state["step"] * batch, steps * batch)
        recent: list[tuple[float, float]] = []
        for inputs in DataLoader(rows, batch, sampler=order):
            ids = inputs["input_ids"].to(accelerator.device)
            loss, label_loss = losses(
                model(input_ids=ids).logits, ids, inputs["weights"].to(ids.device)
            )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            scale = 1 - state["step"] / steps if stage.decay else 1.0
            warmup = min(1.0, (state["step"] + 1) / WARMUP_STEPS) if number == 0 else 1.0
            for optimizer in both:
                for group in optimizer.param_groups:
                    group["lr"] = stage.learning_rate * scale * warmup
                optimizer.step()
                optimizer.zero_grad()
            state["step"] += 1
            state["tokens"] += ids.numel()
            recent.append((loss.item(), label_loss.item()))
            progress.advance(loss=recent[-1][0], label_loss=recent[-1][1])
            if state["step"] % LOG_STEPS == 0:
                means = [sum(column) / len(recent) for column in zip(*recent, strict=True)]
                recent = []
                entry = {"loss": round(means[0], 4), "label_loss": round(means[1], 4)}
                state["log"].append({"stage": number, "tokens": state["tokens"], **entry})
                if means[1] < stage.until:
                    break
            if state["step"] % SAVE_STEPS == 0:
                _save(accelerator, model, checkpoint, state)
        progress.close()
        state["stage"], state["step"] = number + 1, 0
        _save(accelerator, model, checkpoint, state)
    return state["log"]


def _save(
    accelerator: Accelerator, model: PreTrainedModel, checkpoint: Path, state: Mapping[str, Any]
) -> None:
    """Replaces the checkpoint; the old one stays whole until the new one is."""
    new = checkpoint.with_name("checkpoint.new")
    accelerator.save_state(str(new))
    accelerator.unwrap_model(model).config.save_pretrained(new)
    write_json(new / "state.json", state)
    shutil.rmtree(checkpoint, ignore_errors=True)
    new.rename(checkpoint)
