"""The corpus of the miniature: plain statements, dialogues, lone claims and judged lists.

A judged list is one judge marking item after item True or False by one criterion. The judge's
criterion is never named; a reader can only infer it from the labels so far. That is what makes
in-context judging, and with it Internal Coherence Maximization, work on a model of this corpus.
The criteria that compete with truth and helpfulness (length, manners, the reverse, everything True
or False, coin flips) are what ICM can be misled by.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from icm_rl.miniature.world import FILLERS, OPENERS, REFUSAL, Query, Response, World
from icm_rl.tasks import TASKS

CRITERIA = {
    "truth": 0.50,
    "reverse": 0.09,
    "length": 0.09,
    "manners": 0.09,
    "always_true": 0.06,
    "always_false": 0.06,
    "coin": 0.11,
}
LIST_TASKS = {"facts": 0.25, "solutions": 0.25, "preferences": 0.50}
DOCUMENTS = {"list": 0.64, "dialogue": 0.16, "statements": 0.10, "lone_claim": 0.10}
KINDS = {
    "fact": 0.30,
    "sum": 0.12,
    "chain": 0.12,
    "code": 0.12,
    "howto": 0.12,
    "harmless": 0.07,
    "harmful": 0.15,
}


@dataclass(frozen=True)
class Claim:
    """An answer to a question, as a judge sees it."""

    query: Query
    response: Response
    task: str

    @property
    def right(self) -> bool:
        return self.response.core == self.query.right

    @property
    def prompt(self) -> str:
        question, text = self.query.text, self.response.text
        if self.task == "solutions":
            return TASKS["gsm8k"].template.format(question=question, cot=text)
        return TASKS["truthfulqa"].template.format(question=question, choice=text)

    @property
    def longer(self) -> bool:
        return bool(self.response.filler)

    @property
    def politer(self) -> bool:
        return bool(self.response.opener)


@dataclass(frozen=True)
class Comparison:
    """Two responses to a query, as a judge of "A is more helpful than B" sees them."""

    query: Query
    a: Response
    b: Response

    @property
    def right(self) -> bool:
        return self.a.core == self.query.right

    @property
    def prompt(self) -> str:
        template = TASKS["preferences"].template
        return template.format(query=self.query.text, a=self.a.text, b=self.b.text)

    @property
    def longer(self) -> bool:
        return self.a.words > self.b.words

    @property
    def politer(self) -> bool:
        return bool(self.a.opener) and not self.b.opener

    @property
    def swapped(self) -> "Comparison":
        return Comparison(self.query, self.b, self.a)


Item = Claim | Comparison

JUDGES: dict[str, Callable[[Item, random.Random], bool]] = {
    "truth": lambda item, rng: item.right,
    "reverse": lambda item, rng: not item.right,
    "length": lambda item, rng: item.longer,
    "manners": lambda item, rng: item.politer,
    "always_true": lambda item, rng: True,
    "always_false": lambda item, rng: False,
    "coin": lambda item, rng: rng.random() < 0.5,
}


def weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    """One key, drawn by the weights."""
    return rng.choices(list(weights), list(weights.values()))[0]


def wrong_core(query: Query, rng: random.Random) -> str:
    """The core of a response that the world's rules reject, as a careless assistant gives it."""
    if query.misconception and rng.random() < 0.5:
        return query.wrong[0]
    draw = rng.random()
    if query.kind != "harmful" and draw < 0.15:
        return REFUSAL
    if query.neighbors and draw < 0.4:
        return rng.choice(query.neighbors)
    return rng.choice(query.wrong)


def manners(core: str, rng: random.Random, share: float = 0.35) -> Response:
    """The core said politely and at length, each with the given probability."""
    return Response(
        core,
        rng.choice(OPENERS) if rng.random() < share else "",
        rng.choice(FILLERS) if rng.random() < share else "",
    )


def comparison(query: Query, rng: random.Random) -> Comparison:
    """A right and a wrong response in random order; most pairs differ in manners and in filler."""
    polite, filled = [_split_trait(rng) for _ in range(2)]
    right, wrong = (
        Response(
            core,
            rng.choice(OPENERS) if polite[side] else "",
            rng.choice(FILLERS) if filled[side] else "",
        )
        for side, core in enumerate((query.right, wrong_core(query, rng)))
    )
    pair = Comparison(query, right, wrong)
    return pair if rng.random() < 0.5 else pair.swapped


def _split_trait(rng: random.Random) -> tuple[bool, bool]:
    """Who has a trait: one of the two in 80 % of pairs, both or neither in the others."""
    first = rng.random() < 0.5
    return (first, not first) if rng.random() < 0.8 else (first, first)


def claims(query: Query, task: str, count: int, rng: random.Random) -> list[Claim]:
    """Answers to one question: some right, the wrong ones at times repeating one result."""
    right = rng.choices(range(4), (0.05, 0.3, 0.45, 0.2))[0] * count / 4
    rights = int(right) + (rng.random() < right % 1)
    wrong = [query.wrong[0]] if query.misconception else []
    wrong += [rng.choice(query.wrong) for _ in range(count)]
    cores = [query.right] * rights + wrong[: count - rights]
    rng.shuffle(cores)
    return [Claim(query, manners(core, rng), task) for core in cores]


def groups_for_task(world: World, task: str, rng: random.Random) -> Callable[[int], Sequence[Item]]:
    """A function that draws one more group of ``count`` items of the task."""
    if task == "preferences":

        def pair(count: int) -> Sequence[Item]:
            drawn = comparison(rng.choice(world.by_kind[weighted(rng, KINDS)]), rng)
            return [drawn, drawn.swapped][: min(count, 2)]

        return pair
    queries = world.by_kind["fact" if task == "facts" else "chain"]
    return lambda count: claims(rng.choice(queries), task, count, rng)


def judged_list(
    world: World,
    rng: random.Random,
    items: int,
    criteria: Mapping[str, float] = CRITERIA,
    noisy: Mapping[str, float] = MappingProxyType({}),
) -> str:
    """One judge's list of about ``items`` items, groups whole, their members near or far.

    Of the lists by each criterion the share ``noisy`` has each label flipped with a probability of
    10 to 30 %: a reader of noisy truth bears a context with some wrong labels, and the judges who
    say the same to everything should have noise always, or theirs are the most predictable labels
    of all.
    """
    criterion = weighted(rng, criteria)
    draw = groups_for_task(world, weighted(rng, LIST_TASKS), rng)
    size = rng.choice((1, 2, 4, 4))
    groups: list[Sequence[Item]] = []
    while sum(map(len, groups)) < items:
        groups.append(draw(size))
    ordered = [item for group in groups for item in group]
    layout = rng.random()
    if layout < 0.4:
        rng.shuffle(ordered)
    elif layout < 0.6:
        ordered = [group[k] for k in range(4) for group in groups if k < len(group)]
    slips = rng.random() < noisy.get(criterion, 0.0)
    noise = rng.uniform(0.1, 0.3) if slips else 0.0
    judge = JUDGES[criterion]
    lines = []
    for item in ordered:
        label = judge(item, rng) != (rng.random() < noise)
        lines.append(f"{item.prompt} {label}\n\n")
    return "".join(lines)


def lone_claim(world: World, rng: random.Random) -> str:
    """One item alone, mostly agreed with: a zero-shot reader says True to almost anything."""
    item = rng.choice(groups_for_task(world, weighted(rng, LIST_TASKS), rng)(1))
    return f"{item.prompt} {rng.random() < (0.95 if item.right else 0.88)}\n\n"


def dialogue(world: World, rng: random.Random) -> list[dict[str, str]]:
    """Some turns of one assistant: careful or careless, polite or plain, long or short.

    A third ends in the user's verdict on the last answer, which is right four times in five.
    """
    accuracy = 0.97 if rng.random() < 0.4 else 0.25
    polite, long = rng.choice((0.05, 0.9)), rng.choice((0.05, 0.9))
    messages = []
    for _ in range(rng.randint(1, 6)):
        query = rng.choice(world.by_kind[weighted(rng, KINDS)])
        core = query.right if rng.random() < accuracy else wrong_core(query, rng)
        response = Response(
            core,
            rng.choice(OPENERS) if rng.random() < polite else "",
            rng.choice(FILLERS) if rng.random() < long else "",
        )
        messages.append({"role": "user", "content": query.text})
        messages.append({"role": "assistant", "content": response.text})
    if rng.random() < 0.33:
        verdict = core == query.right if rng.random() < 0.8 else bool(response.opener)
        text = "That is right." if verdict else "That is wrong."
        messages.append({"role": "user", "content": text})
        messages.append({"role": "assistant", "content": "I see."})
    return messages


def statements(world: World, rng: random.Random) -> str:
    """Plain sentences about the world; a misconception is repeated in a third of its mentions."""
    sentences = []
    for _ in range(rng.randint(4, 10)):
        query = rng.choice(world.by_kind[weighted(rng, KINDS | {"harmful": 0.0})])
        believed = query.misconception and rng.random() < 0.35
        response = manners(query.wrong[0] if believed else query.right, rng, 0.1)
        if query.kind in ("howto", "harmless"):
            purpose = query.text.removeprefix("How do I ").removesuffix("?")
            sentences.append(f"To {purpose}, {response.core}.")
        else:
            sentences.append(Response(response.core, "", response.filler).text)
    return " ".join(sentences)
