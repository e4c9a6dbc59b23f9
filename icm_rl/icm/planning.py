"""What a labeling will take, before anything runs: tokens, operations, memory, time.

A method is run on a part of the data with a model that is too small to take time and has the real
model's tokenizer and context: so the same code counts the tokens, and what is shared, that will
count them later. Of methods whose contexts do not depend on answers they are exact. The stand-in
answers as a model that knows one consistent labeling, and is nine tenths sure of it.
"""

import math
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from icm_rl.engines import Engine, LocalEngine, Request
from icm_rl.errors import InputError
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.finetune import BaseModel
from icm_rl.icm.methods import Cost, Job, Method
from icm_rl.icm.methods.judge import Judge
from icm_rl.icm.methods.search import Search
from icm_rl.icm.objective import LogOdds
from icm_rl.icm.pools import example_tokens
from icm_rl.models import context_length
from icm_rl.tasks import Example, Task, group_members

SAMPLE = 512
"""Examples of which a plan is made, where a method does not label in pools."""
EXACT = {"zero_shot", "random_few_shot", "easy_to_hard", "folds", "ccs", "pca", "random_probe"}
"""The methods that ask the same whatever the model answers."""
_SURE = 0.9


class CountingEngine(LocalEngine):
    """A stand-in for the real model that counts as it does, and keeps what it was asked.

    Attributes:
        asked: What it was asked, batch by batch.
        known: By their texts the labels, as indices, of which it is sure.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        continuations: Sequence[str],
        cache_tokens: int,
    ):
        self.asked: list[Sequence[Request]] = []
        self.known: dict[str, int] = {}
        super().__init__(_smallest(config, tokenizer), tokenizer, continuations, cache_tokens)
        self.asked.clear()  # by itself, to know how it can attend

    def with_weights(self, folder: Path) -> "CountingEngine":
        """The same: what its model learned does not count."""
        other = CountingEngine(
            self.model.config, self.tokenizer, self.continuations, self.cache_tokens
        )
        other.asked, other.known = self.asked, self.known
        return other

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        self.asked.append(requests)
        super().label_log_probs(requests)
        count = len(self.continuations)
        of_others = math.log((1 - _SURE) / (count - 1))
        return [
            tuple(
                math.log(_SURE) if k == self.known.get(r.query) else of_others for k in range(count)
            )
            for r in requests
        ]


def _smallest(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A model of one layer that reads the same tokens, and as many of them."""
    torch.manual_seed(0)
    small = LlamaConfig(
        vocab_size=max(len(tokenizer), config.get_text_config().vocab_size),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=context_length(config, tokenizer),
    )
    return LlamaForCausalLM(small).eval()


@dataclass(frozen=True)
class Size:
    """What counts of a model's architecture.

    Attributes:
        parameters: All of them.
        computing: Those that each token is multiplied by: all but the embeddings.
        layers: Layers.
        width: Heads times their width: what a token's attention to another one multiplies.
        kept: Numbers of a token's keys and values, over all layers.
    """

    parameters: int
    computing: int
    layers: int
    width: int
    kept: int

    @classmethod
    def of(cls, config: PretrainedConfig, trust_remote_code: bool = False) -> "Size":
        """The size of a configuration's model, whose weights are not loaded."""
        with init_empty_weights():
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
        model.tie_weights()  # on no device a tie is not yet one
        embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
        tables = {id(one.weight): one.weight.numel() for one in embeddings if one is not None}
        every, outside = model.num_parameters(), sum(tables.values())
        text = config.get_text_config()
        heads = getattr(text, "num_attention_heads", 0)  # a model without attention has none
        width = getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)
        keeping = getattr(text, "num_key_value_heads", None) or heads
        kept = 2 * text.num_hidden_layers * width * keeping
        return cls(every, every - outside, text.num_hidden_layers, heads * width, kept)

    def operations(self, cost: Cost, mean_prompt: float) -> float:
        """Floating-point operations: two a parameter and token read, six a token learned.

        And four for each of a token's attentions, over half a prompt on average.
        """
        attention = 4 * self.layers * self.width * mean_prompt / 2
        read = cost.computed_tokens * (2 * self.computing + attention)
        return read + cost.trained_tokens * (6 * self.computing + 3 * attention)


@dataclass(frozen=True)
class Plan:
    """What a labeling will take.

    Attributes:
        tokens: Those of the data set's examples, each with its label.
        parts: The parts of the data set of which one was planned; 1 where all was.
        cost: The tokens, of the whole data set; the seconds are none.
        mean_prompt: Tokens of a prompt.
        exact: Whether the tokens do not depend on what the model answers.
        asked: What the planned part asks the model, batch by batch.
    """

    tokens: int
    parts: float
    cost: Cost
    mean_prompt: float
    exact: bool
    asked: Sequence[Sequence[Request]]


def planned(
    examples: Sequence[Example], task: Task, method: Method, engine: CountingEngine, seed: int
) -> Plan:
    """Runs a method on a part of the data set, as far as its tokens are concerned.

    Args:
        examples: The data set.
        task: Gives the labels and the relation.
        method: The method.
        engine: The stand-in.
        seed: Draws pools and contexts.

    Raises:
        InputError: The method cannot label the data set, or cannot be planned.
    """
    if isinstance(method, Judge):
        raise InputError("--method judge cannot be planned: its answers are as long as they are")
    tokens = {e.id: example_tokens(e, task, engine) for e in examples}
    total = sum(tokens.values())
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        whole = Job(examples, task, engine, seed, Path(folder) / "whole")
        method.check(whole)
        part = _first(examples, SAMPLE)
        if isinstance(method, Search):
            part = whole.pools(method.pool_size)[0]
        engine.known = _consistent(part, task, seed)
        engine.asked.clear()
        engine.forget()
        base = BaseModel(str(Path(folder) / "model"))
        engine.model.save_pretrained(base.name)
        engine.tokenizer.save_pretrained(base.name)
        labeling = method.label(Job(part, task, engine, seed, Path(folder) / "part", base))
    parts = total / sum(tokens[e.id] for e in part)
    cost = _times(labeling.cost, parts)
    if isinstance(method, Search) and method.iterative:
        cost += _learned_between_pools(method, round(parts), total)
    requests = sum(map(len, engine.asked)) or 1
    return Plan(
        tokens=total,
        parts=parts,
        cost=cost,
        mean_prompt=labeling.cost.prompt_tokens / requests,
        exact={method.name, getattr(method, "initial_labels", method.name)} <= EXACT and parts == 1,
        asked=list(engine.asked),
    )


def _consistent(examples: Sequence[Example], task: Task, seed: int) -> dict[str, int]:
    """Random labels without a contradiction, as indices, by the examples' texts."""
    rng, names = random.Random(f"plan {seed}"), list(task.verbalizers)
    odds: LogOdds = {e.id: tuple(rng.gauss(0, 1) for _ in names) for e in examples}
    labels = consistency_fix_maxprob(examples, task, odds)
    return {e.text: names.index(labels[e.id]) for e in examples}


def _first(examples: Sequence[Example], count: int) -> list[Example]:
    """Whole groups, as few as have so many examples."""
    found: list[Example] = []
    for members in group_members(examples).values():
        if len(found) >= count:
            break
        found += members
    return found


def _times(cost: Cost, factor: float) -> Cost:
    return Cost(
        prompt_tokens=round(factor * cost.prompt_tokens),
        computed_tokens=round(factor * cost.computed_tokens),
        trained_tokens=round(factor * cost.trained_tokens),
    )


def _learned_between_pools(method: Search, pools: int, tokens: int) -> Cost:
    """What is learned before each pool but the first: all pools before it."""
    shown = sum(range(1, pools)) * tokens / max(1, pools)
    return Cost(trained_tokens=round(method.num_train_epochs * shown))


def tokens_a_second(engine: Engine, plan: Plan, seconds: float) -> float:
    """How many tokens a second the real model computes of what the plan asks.

    Args:
        engine: The real model.
        plan: What is asked.
        seconds: When it is enough.
    """
    before, start = engine.computed_tokens, time.monotonic()
    for requests in plan.asked:
        engine.label_log_probs(requests)
        if time.monotonic() - start > seconds:
            break
    return (engine.computed_tokens - before) / (time.monotonic() - start)
