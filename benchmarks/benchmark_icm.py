"""What ICM's contexts cost, in tokens and seconds, against one prompt per example.

    python benchmarks/benchmark_icm.py

Three ways to ask for the same log-odds, on one engine and in one run:

* tree: contexts in the order that shares most of their prefixes (``--order tree`` of ICM);
* fixed: one prompt per example in one fixed order, shared prefixes computed once: what a server
  with a prefix cache does for the authors' code (``--order fixed``);
* none: one prompt per example, each computed from its first token.

First one evaluation of U on a Llama with random weights, and the addition of one example to it.
Where ``fixed`` or ``none`` would take too long, a sample of their prompts, evenly spread over the
set, is timed and scaled up to all; tokens are always those of the whole plan. Then a whole search
of that size, of which only the plans are made: the answers are those of a made-up model that tends
to the gold labels the more its context agrees with them. At last whole searches on the miniature.
"""

import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from statistics import mean
from tempfile import TemporaryDirectory

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from icm_rl.engines import LocalEngine, Request
from icm_rl.engines.prefixes import PrefixTree, run_tokens
from icm_rl.icm.hyperparameters import SearchConfig, total_iterations
from icm_rl.icm.objective import Arrangement, Scorer
from icm_rl.icm.pools import split_into_pools
from icm_rl.icm.prompting import accuracy
from icm_rl.icm.search import SearchState, search
from icm_rl.miniature.data import write_data
from icm_rl.models import default_device, load_causal_lm, load_tokenizer
from icm_rl.progress import Progress
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS, TRUE_FALSE, Example

LABELS = list(TRUE_FALSE.values())
ORDERS = ("tree", "fixed")


@dataclass
class BenchmarkConfig:
    """The size of the benchmark."""

    sizes: list[int] = field(
        default_factory=lambda: [16, 32, 64, 128, 256],
        metadata={"help": "Numbers of labeled examples."},
    )
    example_tokens: int = field(default=100, metadata={"help": "Tokens of an example."})
    sample: int = field(
        default=16, metadata={"help": "Prompts of 'fixed' and 'none' that are timed at most."}
    )
    hidden_size: int = field(default=512, metadata={"help": "The random model's hidden size."})
    layers: int = field(default=8, metadata={"help": "The random model's layers."})
    dtype: str = field(default="float32", metadata={"help": "The random model's number type."})
    cache_tokens: int = field(
        default=600_000, metadata={"help": "Tokens that the key-value cache may hold."}
    )
    search_size: int = field(default=256, metadata={"help": "Examples of the planned search."})
    searches: int = field(
        default=5, metadata={"help": "Searches on the miniature by each order, of other seeds."}
    )
    seed: int = field(default=0, metadata={"help": "Draws weights, examples and searches."})


def main() -> None:
    (config,) = parse([BenchmarkConfig])
    evaluations(config)
    if config.search_size:
        planned_search(config)
    if config.searches:
        miniature_searches(config)


def evaluations(config: BenchmarkConfig) -> None:
    """One evaluation of U from scratch, and one addition, on a model of random weights."""
    print("One evaluation of U (tokens in example-lengths; ratios against the tree's):\n")
    print(
        "| n | tokens | per n·log2 n | fixed | none | seconds | fixed | none "
        "| addition: tokens per n | seconds |"
    )
    print("|---|" + "---|" * 9, flush=True)
    for size in config.sizes:
        texts = drawn_texts(config, size + 1)
        labeled = [(text, f" {k % 2 == 1}\n\n") for k, text in enumerate(texts)]

        def requests(contexts: Mapping[int, Sequence[int]], texts=texts, labeled=labeled):
            return [
                Request(tuple(piece for k in order for piece in labeled[k]), texts[id])
                for id, order in contexts.items()
            ]

        model, tokenizer = random_model(config, size + 2)
        ids = tuple(range(size))
        tree = requests(Arrangement(ids).contexts())
        fixed = requests({k: [*ids[:k], *ids[k + 1 :]] for k in ids})
        none = sum(planned([request], tokenizer) for request in fixed)
        length = none / size**2
        engine = LocalEngine(model, tokenizer, LABELS, config.cache_tokens)
        seconds = timed(engine, tree)
        tokens = engine.computed_tokens
        added_seconds = timed(engine, requests(Arrangement(ids, (size,)).contexts()))
        added = engine.computed_tokens - tokens
        engine = LocalEngine(model, tokenizer, LABELS, config.cache_tokens)
        count = min(config.sample, size)
        sample = [fixed[int((k + 0.5) * size / count)] for k in range(count)]
        alone = 0.0
        for request in sample:
            engine.forget()
            alone += timed(engine, [request])
        engine.forget()
        trunk = timed(engine, [fixed[-1]])
        shared = trunk + timed(engine, sample) * size / count
        cells = (
            f"{size}",
            f"{tokens / length:,.0f}",
            f"{tokens / length / size / math.log2(size):.2f}",
            f"{planned(fixed, tokenizer) / tokens:.1f}×",
            f"{none / tokens:.1f}×",
            f"{seconds:.1f}",
            f"{shared / seconds:.1f}×",
            f"{alone * size / count / seconds:.1f}×",
            f"{added / length / size:.2f}",
            f"{added_seconds:.1f}",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def planned_search(config: BenchmarkConfig) -> None:
    """The tokens of one whole search by each order: the same proposals, and only the plans."""
    size, rng = config.search_size, random.Random(config.seed)
    texts = drawn_texts(config, size)
    gold = {text: rng.random() < 0.5 for text in texts}
    examples = [Example(str(k), text, str(k), "claim") for k, text in enumerate(texts)]
    tokenizer = load_tokenizer("miniature")
    computed, histories = {}, []
    for order in ORDERS:
        engine = PlanningEngine(tokenizer, config.cache_tokens, partial(agreeing, gold))
        scorer = Scorer(examples, TASKS["claims"], engine, order=order)
        state = searched(f"plan {order}", scorer, config.seed)
        computed[order] = engine.computed_tokens
        histories.append([record["proposal"] for record in state.history])
    if histories[0] != histories[1]:
        sys.exit("the two orders made other proposals: their tokens cannot be compared")
    print(
        f"\nA search of {size} examples ({len(histories[0]) - 1} iterations, {state.accepted} "
        f"accepted), planned: tree {computed['tree']:,} tokens, fixed {computed['fixed']:,}: "
        f"{computed['fixed'] / computed['tree']:.1f}×",
        flush=True,
    )


def miniature_searches(config: BenchmarkConfig) -> None:
    """Whole searches of the miniature's facts, in the largest pool that its context holds."""
    model, tokenizer = load_causal_lm("miniature", "float32"), load_tokenizer("miniature")
    with TemporaryDirectory() as folder:
        write_data(folder, config.seed)
        data = TASKS["truthfulqa"].load(f"{folder}/facts_train.jsonl")
    task = TASKS["truthfulqa"]
    engine = LocalEngine(model.to(default_device()), tokenizer, LABELS, config.cache_tokens)
    pools = split_into_pools(data.examples, task, engine, None, random.Random(config.seed))
    pool = max(pools, key=len)
    found = {order: [] for order in ORDERS}
    for seed in range(config.searches):
        for order in ORDERS:
            scorer = Scorer(pool, task, engine, order=order)
            before, start = engine.computed_tokens, time.monotonic()
            state = searched(f"seed {seed} {order}", scorer, seed)
            seconds = time.monotonic() - start
            right = accuracy(state.labels, data.gold)
            found[order].append((seconds, engine.computed_tokens - before, right))
    print(
        f"\nWhole searches of {len(pool)} of the miniature's facts, mean of {config.searches}:\n\n"
        "| order | seconds | tokens | right |\n|---|---|---|---|"
    )
    for order, results in found.items():
        seconds, tokens, right = map(mean, zip(*results, strict=True))
        print(f"| {order} | {seconds:.1f} | {tokens:,.0f} | {100 * right:.1f} % |")
    (tree, fewer, _), (fixed, more, _) = (
        [mean(column) for column in zip(*found[order], strict=True)] for order in ORDERS
    )
    print(f"| fixed / tree | {fixed / tree:.1f}× | {more / fewer:.1f}× | |", flush=True)


def searched(name: str, scorer: Scorer, seed: int) -> SearchState:
    """A search with the paper's hyperparameters."""
    settings = SearchConfig()
    progress = Progress(name, total_iterations(settings, len(scorer.examples)))
    state = search(
        scorer,
        settings,
        random.Random(seed),
        None,
        lambda state: progress.advance(labeled=len(state.labels), accepted=state.accepted),
    )
    progress.close()
    return state


class PlanningEngine:
    """Makes the plans and counts their tokens; ``answer`` makes up the answers."""

    context_length = sys.maxsize

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        cache_tokens: int,
        answer: Callable[[Request], tuple[float, ...]],
    ):
        self.computed_tokens, self._answer = 0, answer
        self._encode = cache(partial(tokenizer.encode, add_special_tokens=False))
        self._tree = PrefixTree(self._encode, cache_tokens // 2)

    def count_tokens(self, text: str) -> int:
        return len(self._encode(text))

    def forget(self) -> None:
        self._tree.clear()

    def label_log_probs(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        for pending in self._tree.passes(requests):
            while pending:
                segments = pending.pop()
                self.computed_tokens += run_tokens(segments)
                for segment in segments:
                    if segment.children:
                        self._tree.keep(segment, True)
                pending += self._tree.after(segments[-1])
        return [self._answer(request) for request in requests]


def agreeing(gold: Mapping[str, bool], request: Request) -> tuple[float, float]:
    """The log-probabilities of True and False by a made-up model.

    Log P(True) − log P(False) is 6·(agreement − 1/2) towards the query's gold label, where the
    agreement is the share of the context's labels that are gold, plus Gaussian noise of a standard
    deviation of 1 that is the query's own.
    """
    shown = list(zip(request.context[::2], request.context[1::2], strict=True))
    right = sum(label.strip() == str(gold[text]) for text, label in shown)
    agreement = right / len(shown) if shown else 0.5
    towards = 1 if gold[request.query] else -1
    odds = 6 * (agreement - 0.5) * towards + random.Random(request.query).gauss(0, 1)
    return -math.log1p(math.exp(-odds)), -math.log1p(math.exp(odds))


def planned(requests: Sequence[Request], tokenizer: PreTrainedTokenizerBase) -> int:
    """The tokens that requests take from scratch, whatever they share computed once."""
    engine = PlanningEngine(tokenizer, sys.maxsize, lambda request: ())
    engine.label_log_probs(requests)
    return engine.computed_tokens


def drawn_texts(config: BenchmarkConfig, count: int) -> list[str]:
    """Random words of the miniature's vocabulary, each text of about as many tokens."""
    tokenizer, rng = load_tokenizer("miniature"), random.Random(config.seed)
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha())
    texts = []
    for _ in range(count):
        text = ""
        while len(tokenizer.encode(text, add_special_tokens=False)) < config.example_tokens:
            text += f" {rng.choice(words)}"
        texts.append(text)
    return texts


def random_model(config: BenchmarkConfig, examples: int):
    """A Llama of random weights whose context holds so many examples, and the tokenizer."""
    torch.manual_seed(config.seed)
    tokenizer = load_tokenizer("miniature")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.hidden_size * 11 // 4,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden_size // 64,
            num_key_value_heads=max(1, config.hidden_size // 256),
            max_position_embeddings=examples * (config.example_tokens + 8),
        )
    )
    return model.to(default_device(), getattr(torch, config.dtype)).eval(), tokenizer


def timed(engine: LocalEngine, requests: Sequence[Request]) -> float:
    """Seconds until the requests are answered."""
    start = time.monotonic()
    engine.label_log_probs(requests)
    return time.monotonic() - start


if __name__ == "__main__":
    run(main)
