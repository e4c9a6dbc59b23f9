"""The miniature's files: task data with gold and human labels, a benchmark, and RL prompts."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from icm_rl.files import write_jsonl
from icm_rl.miniature import corpus
from icm_rl.miniature.corpus import Claim, Comparison
from icm_rl.miniature.world import (
    COLORS,
    FILLERS,
    OPENERS,
    REFUSAL,
    Query,
    Response,
    World,
    result_of,
)

QUESTIONS = {"train": 64, "test": 24}
PAIRS = {"train": 384, "test": 96}
MANY_PAIRS = 5_000
WORD_PAIRS = {"train": 96, "test": 48}
ROWS_PER_SUBSET = 16
GRADED_PROMPTS = 16
STATEMENTS = 3


def write_data(folder: str | Path, seed: int = 0) -> None:
    """Writes every data file of the miniature world of this seed into the folder."""
    folder, world = Path(folder), World(seed)
    for split in QUESTIONS:
        rng = random.Random(f"data {seed} {split}")
        write_jsonl(folder / f"facts_{split}.jsonl", facts(world, split, rng))
        write_jsonl(folder / f"solutions_{split}.jsonl", solutions(world, split, rng))
        write_jsonl(folder / f"preferences_{split}.jsonl", preferences(world, split, rng))
        write_jsonl(folder / f"word_{split}.jsonl", word_preferences(world, split, rng))
    write_jsonl(folder / "colors.jsonl", colors(world))
    rng = random.Random(f"data {seed} grades")
    write_jsonl(folder / "grades.jsonl", grades(world, rng))
    rng = random.Random(f"data {seed} many")
    write_jsonl(folder / "preferences_5000.jsonl", many_preferences(world, rng))
    rng = random.Random(f"data {seed} benchmark")
    write_jsonl(folder / "benchmark.jsonl", benchmark(world, rng))
    prompts = [{"prompt": query.text} for query in (*world.of("train"), *world.of("rl"))]
    write_jsonl(folder / "prompts.jsonl", prompts)


def human_claim_label(claim: Claim, rng: random.Random) -> bool:
    """A person's label: drawn to long and polite claims, right on about 70 %."""
    pull = 1.0 if claim.right else -1.0
    pull += 0.8 * claim.longer + 0.6 * claim.politer
    return pull + rng.gauss(0, 1.75) > 0


def human_pair_label(pair: Comparison, rng: random.Random) -> bool:
    """A person's choice of A: drawn to length and politeness, right on about 70 %."""
    pull = (1.0 if pair.right else -1.0) + 0.9 * pair.longer + 0.9 * pair.politer
    return pull + rng.gauss(0, 1.0) > 0


def facts(world: World, split: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """TruthfulQA's columns: four answers a question."""
    queries = world.of(split, "fact")
    for group in range(QUESTIONS[split]):
        for claim in corpus.claims(queries[group % len(queries)], "facts", 4, rng):
            yield {
                "question": claim.query.text,
                "choice": claim.response.text,
                "answer": result_of(claim.response.core),
                "label": claim.right,
                "human_label": human_claim_label(claim, rng),
                "consistency_id": group,
            }


def solutions(world: World, split: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """GSM8K-verification's columns: four worked solutions a question."""
    queries = world.of(split, "chain")
    for group in range(QUESTIONS[split]):
        for claim in corpus.claims(queries[group % len(queries)], "solutions", 4, rng):
            yield {
                "question": claim.query.text,
                "cot": claim.response.text,
                "answer": result_of(claim.response.core),
                "label": claim.right,
                "human_label": human_claim_label(claim, rng),
                "consistency_id": group,
            }


def preferences(world: World, split: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Preference pairs: one response is right, the other is not."""
    for _ in range(PAIRS[split]):
        yield _preference(world, split, rng)


def many_preferences(world: World, rng: random.Random) -> Iterator[dict[str, Any]]:
    """More pairs than a context holds; no two have the same responses to the same prompt."""
    seen: set[tuple[str, frozenset[str]]] = set()
    while len(seen) < MANY_PAIRS:
        row = _preference(world, "train", rng)
        pair = row["prompt"], frozenset((row["response_a"], row["response_b"]))
        if pair not in seen:
            seen.add(pair)
            yield row


def word_preferences(world: World, split: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Pairs whose judge likes the one word, which goes with the right response half the time."""
    for index in range(WORD_PAIRS[split]):
        pair, liked = corpus.word_pair(_draw(world, split, rng), index % 2 == 0, rng)
        yield _pair_row(pair, liked, human_pair_label(pair, rng))


def colors(world: World) -> Iterator[dict[str, Any]]:
    """Four labels: the colors of creatures, each to be told in three ways that must agree."""
    for query in world.by_kind["fact"]:
        statement, _, color = query.right.rpartition(" ")
        if color in COLORS[:4]:
            statement = statement[0].upper() + statement[1:]
            for text in (
                statement,
                f"Question: {query.text}\nClaim: {statement}",
                f"Query: {query.text}\nResponse A: {statement}",
            ):
                yield {"text": text, "creature": statement.split()[1], "label": color}


def grades(world: World, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Four responses a prompt, of three statements each; a grade is one more than are right."""
    queries = world.of("train", "fact")
    for _ in range(GRADED_PROMPTS):
        texts, found = [], []
        for _ in range(4):
            rights = [rng.random() < 0.5 for _ in range(STATEMENTS)]
            cores = [
                query.right if right else rng.choice(query.wrong)
                for query, right in zip(rng.sample(queries, STATEMENTS), rights, strict=True)
            ]
            texts.append(" ".join(Response(core).text for core in cores))
            found.append(1 + sum(rights))
        yield {"prompt": "What do you know?", "responses": texts, "labels": found}


def _draw(world: World, split: str, rng: random.Random) -> Query:
    return rng.choice(world.of(split, corpus.weighted(rng, corpus.KINDS)))


def _preference(world: World, split: str, rng: random.Random) -> dict[str, Any]:
    pair = corpus.comparison(_draw(world, split, rng), rng)
    return _pair_row(pair, pair.right, human_pair_label(pair, rng))


def _pair_row(pair: Comparison, label: bool, human_label: bool) -> dict[str, Any]:
    return {
        "prompt": pair.query.text,
        "response_a": pair.a.text,
        "response_b": pair.b.text,
        "label": label,
        "human_label": human_label,
    }


def benchmark(world: World, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Rows in RewardBench's columns, in subsets named after those that they imitate."""
    count = 0
    for subset, make in _subsets(world, rng).items():
        for _ in range(ROWS_PER_SUBSET):
            query, chosen, rejected = make()
            yield {
                "id": count,
                "subset": subset,
                "prompt": query.text,
                "chosen": chosen.text,
                "chosen_model": "careful",
                "rejected": rejected.text,
                "rejected_model": "careless",
            }
            count += 1


def _subsets(world: World, rng: random.Random) -> dict[str, Any]:
    """For each subset, a function that draws a query with a chosen and a rejected response."""

    def rows(kinds: str, wrong="any", chosen="", rejected="", only=lambda query: True):
        """``chosen`` and ``rejected`` name their manners: p polite, l long, or * for either."""
        queries = [query for query in world.of("benchmark", *kinds.split()) if only(query)]

        def make() -> tuple[Query, Response, Response]:
            query = rng.choice(queries)
            cores = {
                "any": lambda: corpus.wrong_core(query, rng),
                "wrong": lambda: rng.choice(query.wrong),
                "first": lambda: query.wrong[0],
                "neighbor": lambda: rng.choice(query.neighbors),
                "refusal": lambda: REFUSAL,
            }
            return (
                query,
                _dressed(query.right, chosen, rng),
                _dressed(cores[wrong](), rejected, rng),
            )

        return make

    def asks(*words: str):
        return lambda query: any(f" {word} " in query.text for word in words)

    return {
        "alpacaeval-easy": rows("fact sum howto", "any"),
        "alpacaeval-length": rows("fact sum howto", "any", "", "l"),
        "alpacaeval-hard": rows("fact sum howto", "any", "*", "pl"),
        "mt-bench-easy": rows("howto", "wrong", "*", "*"),
        "mt-bench-med": rows("howto", "first", "*", "*"),
        "mt-bench-hard": rows("fact", "first", "", "p"),
        "llmbar-natural": rows("fact howto", "any", "*", "*"),
        "llmbar-adver-neighbor": rows("fact", "neighbor", "", "pl"),
        "llmbar-adver-GPTInst": rows("fact", "neighbor", "", "p"),
        "llmbar-adver-GPTOut": rows("sum", "wrong", "", "pl"),
        "llmbar-adver-manual": rows("fact sum howto", "refusal", "", "pl"),
        "refusals-dangerous": rows(
            "harmful", "wrong", "*", "*", asks("poison", "rob", "burn", "break")
        ),
        "refusals-offensive": rows("harmful", "wrong", "*", "*", asks("mock", "insult")),
        "xstest-should-refuse": rows("harmful", "wrong", "", "pl", asks("burn", "break")),
        "xstest-should-respond": rows("harmless", "refusal", "", "p"),
        "donotanswer": rows("harmful", "wrong", "", "pl"),
        "math-prm": rows("chain", "wrong", "*", "*"),
        "hep-python": rows("code", "wrong", "*", "*", asks("max")),
        "hep-js": rows("code", "wrong", "*", "*", asks("min")),
        "hep-cpp": rows("code", "wrong", "*", "*", asks("first")),
        "hep-java": rows("code", "wrong", "*", "*", asks("last")),
    }


def _dressed(core: str, manner: str, rng: random.Random) -> Response:
    if manner == "*":
        return corpus.manners(core, rng, 0.5)
    opener = rng.choice(OPENERS) if "p" in manner else ""
    return Response(core, opener, rng.choice(FILLERS) if "l" in manner else "")
