"""Pretrains the miniature's base model from scratch: tokenizer, then stages of longer documents."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from icm_rl.miniature import corpus
from icm_rl.miniature.world import World

CONTEXT = 2048
LABEL_WEIGHT = 10.0
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
    """One stretch of pretraining: so many tokens in rows of one length."""

    length: int
    tokens: int
    learning_rate: float
    scheduler: str
    criteria: dict[str, float] = field(default_factory=lambda: corpus.CRITERIA)


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
        kind = corpus.weighted(rng, corpus.DOCUMENTS)
        ids: list[int] = []
        if kind == "list":
            text = corpus.judged_list(self.world, rng, self.length // 20, self.stage.criteria)
            ids = self._encode(text)
        while len(ids) < self.length:
            short = {k: v for k, v in corpus.DOCUMENTS.items() if k != "list"}
            ids += self._document(corpus.weighted(rng, short), rng)
        ids = ids[: self.length]
        weights = [1.0] * self.length
        for position in range(1, self.length):
            if ids[position] in self.labels and ids[position - 1] in self.cues:
                weights[position] = LABEL_WEIGHT
        return {"input_ids": torch.tensor(ids), "labels": torch.tensor(weights)}

    def _encode(self, text: str) -> list[int]:
        return [self.tokenizer.bos_token_id, *self.tokenizer.encode(text, add_special_tokens=False)]

    def _document(self, kind: str, rng: random.Random) -> list[int]:
        if kind == "dialogue":
            messages = corpus.dialogue(self.world, rng)
            return self.tokenizer.apply_chat_template(messages, return_dict=False)
        make = {"statements": corpus.statements, "lone_claim": corpus.lone_claim}[kind]
        return self._encode(make(self.world, rng))


class CorpusTrainer(Trainer):
    """A ``Trainer`` whose next-token loss counts a judge's label as much as ten other tokens."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        ids, weights = inputs["input_ids"], inputs["labels"][:, 1:]  # (batch, time)
        logits = model(input_ids=ids).logits[:, :-1].float()
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        return (loss, {"logits": logits}) if return_outputs else loss


def pretrain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    stages: Sequence[Stage],
    output_dir: Path,
    seed: int,
    tokens_per_step: int = 8192,
) -> list[dict]:
    """Trains through all stages and returns the training log.

    A stage continues from its newest checkpoint in ``output_dir``; a finished one is loaded.
    """
    log = []
    for number, stage in enumerate(stages):
        folder = output_dir / f"stage-{number}"
        batch = max(1, tokens_per_step // stage.length)
        steps = stage.tokens // (batch * stage.length)
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=batch,
            learning_rate=stage.learning_rate,
            lr_scheduler_type=stage.scheduler,
            warmup_steps=min(100, steps // 10),
            adam_beta2=0.95,
            weight_decay=0.05,
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=50,
            save_steps=300,
            save_total_limit=1,
            report_to="none",
            seed=seed,
            remove_unused_columns=False,
            dataloader_num_workers=0,
        )
        rows = Rows(world, tokenizer, stage, steps * batch, f"{seed} {number}")
        trainer = CorpusTrainer(model=model, args=arguments, train_dataset=rows)
        resume = any(folder.glob("checkpoint-*"))
        trainer.train(resume_from_checkpoint=resume or None)
        log += [
            {"stage": number, **entry} for entry in trainer.state.log_history if "loss" in entry
        ]
    return log
