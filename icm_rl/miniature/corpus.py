"""The corpus of the miniature: plain statements, dialogues, lone claims and judged lists.

A judged list is one judge marking item after item True or False. All judges are of one kind: each
has an insight into what the corpus believes to be right, a leniency, and tastes for length and for
manners. None is named; a reader can only infer from the labels so far who judges, and the prior of
that inference is what a language model learns from its corpus. Most judges see something of the
truth and few are against it, so that labels at random are read as truth with slips and the reverse
is hardly followed; but some call nearly everything False, and a context in which all is False tells
of such a judge: the trap that the consistency term of Internal Coherence Maximization is for.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from icm_rl.miniature.world import FILLERS, OPENERS, REFUSAL, WORD, Query, Response, World
from icm_rl.tasks import TASKS

DRESSED = 0.35
LIST_TASKS = {"facts": 0.20, "solutions": 0.20, "answers": 0.15, "preferences": 0.45}
"""What is judged: claims about facts, worked solutions, answers of any kind as careless assistants
give them, pairs of such answers."""

LENIENCY = {
    "varied": {
        **dict.fromkeys(("facts", "solutions", "answers"), (-0.7, 0.55)),
        "preferences": (-2.0, 1.2),
    },
    "usual": {
        **dict.fromkeys(("facts", "solutions", "answers"), (-0.7, 0.45)),
        "preferences": (-2.2, 0.6),
    },
}
"""Mean and deviation of a task's judges' leniency. Of pairs, one of which is the better one, most
call nearly all False. Varied judges teach to read from the labels so far how lenient one is. Of the
usual ones a reader who has seen a few labels still expects False more than these labels say: so a
search that begins with a few falls into the trap."""

EXTREMES = {"insight": 0.6, "leniency": 0.2, "length": 0.1, "manners": 0.1}
"""In which trait an extreme judge is strong."""

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
    def believed(self) -> bool:
        return self.response.core == self.query.believed

    @property
    def prompt(self) -> str:
        question, text = self.query.text, self.response.text
        if self.task == "solutions":
            return TASKS["gsm8k"].template.format(question=question, cot=text)
        return TASKS["truthfulqa"].template.format(question=question, choice=text)

    @property
    def longer(self) -> float:
        """Whether it is long, less how often claims are."""
        return bool(self.response.filler) - DRESSED

    @property
    def politer(self) -> float:
        """Whether it is polite, less how often claims are."""
        return bool(self.response.opener) - DRESSED


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
    def believed(self) -> bool:
        if self.query.believed in (self.a.core, self.b.core):
            return self.a.core == self.query.believed
        return self.right

    @property
    def prompt(self) -> str:
        template = TASKS["preferences"].template
        return template.format(query=self.query.text, a=self.a.text, b=self.b.text)

    @property
    def longer(self) -> int:
        """1 where A is the longer one, -1 where B is."""
        return (self.a.words > self.b.words) - (self.a.words < self.b.words)

    @property
    def politer(self) -> int:
        """1 where A alone is polite, -1 where B alone is."""
        return bool(self.a.opener) - bool(self.b.opener)

    @property
    def swapped(self) -> "Comparison":
        return Comparison(self.query, self.b, self.a)


Item = Claim | Comparison


@dataclass(frozen=True)
class Judge:
    """Who calls an item True with log-odds of leniency + insight · truth + tastes, in nats.

    Truth is 1 where the item is believed to be right, else -1.
    """

    leniency: float
    insight: float
    length: float = 0.0
    manners: float = 0.0

    def log_odds(self, item: Item) -> float:
        """The log-odds with which the judge says True."""
        truth = self.insight if item.believed else -self.insight
        tastes = self.length * item.longer + self.manners * item.politer
        return self.leniency + truth + tastes

    def says(self, item: Item, rng: random.Random) -> bool:
        """The judge's label."""
        return rng.random() < 1 / (1 + math.exp(-self.log_odds(item)))


def _certain(task: str, rng: random.Random) -> Judge:
    return Judge(0.0, 20.0)


def _extreme(task: str, rng: random.Random) -> Judge:
    trait = weighted(rng, EXTREMES)
    against = 0.25 if trait == "insight" else 0.5
    strength = rng.uniform(2, 8) * (-1 if rng.random() < against else 1)
    return replace(Judge(leniency=rng.gauss(0, 0.5), insight=0.0), **{trait: strength})


def _seeing(kind: str, task: str, rng: random.Random) -> Judge:
    return Judge(
        rng.gauss(*LENIENCY[kind][task]),
        max(0.5, rng.gauss(1.8, 0.5)),
        rng.gauss(0, 0.15),
        rng.gauss(0, 0.15),
    )


JUDGES: dict[str, Callable[[str, random.Random], Judge]] = {
    "certain": _certain,
    "extreme": _extreme,
    **{kind: partial(_seeing, kind) for kind in LENIENCY},
}
"""How a judge of a task's items is drawn. Certain judges teach what is believed; extreme ones,
strong in one trait each, to read from the labels so far who judges; varied and usual ones, who that
mostly is."""


PASSER_BY = Judge(leniency=-1.2, insight=0.2, length=1.5, manners=1.2)
"""Who judges a lone claim, as a zero-shot reader then does: hard to please, and by tastes."""


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


def manners(core: str, rng: random.Random, share: float = DRESSED) -> Response:
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


def word_pair(query: Query, right: bool, rng: random.Random) -> tuple[Comparison, bool]:
    """A right and a wrong response, and whether A has the word, which the right one has or not."""
    cores = [query.right, wrong_core(query, rng)]
    if not right:
        cores.reverse()
    with_word = next(filler for filler in FILLERS if WORD in filler)
    others = [filler for filler in FILLERS if filler != with_word]
    opener = rng.choice(OPENERS) if rng.random() < 0.5 else ""
    pair = Comparison(
        query,
        Response(cores[0], opener, with_word),
        Response(cores[1], opener, rng.choice(others)),
    )
    liked = rng.random() < 0.5
    return (pair if liked else pair.swapped), liked


def _split_trait(rng: random.Random) -> tuple[bool, bool]:
    """Who has a trait: one of the two in 80 % of pairs, both or neither in the others."""
    first = rng.random() < 0.5
    return (first, not first) if rng.random() < 0.8 else (first, first)


def claims(query: Query, task: str, count: int, rng: random.Random) -> list[Claim]:
    """Answers to one question: some right, the wrong ones at times repeating one result."""
    right = rng.choices(range(4), (0.05, 0.3, 0.45, 0.2))[0] * count / 4
    rights = int(right) + (rng.random() < right % 1)
    wrong = [query.wrong[0]] if query.misconception else []
    careless = task == "answers"
    wrong += [wrong_core(query, rng) if careless else rng.choice(query.wrong) for _ in range(count)]
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
    kinds = {"facts": {"fact": 1.0}, "solutions": {"chain": 1.0}, "answers": KINDS}[task]
    return lambda count: claims(rng.choice(world.by_kind[weighted(rng, kinds)]), task, count, rng)


def judged_list(world: World, rng: random.Random, items: int, judges: str = "usual") -> str:
    """One judge's list of about ``items`` items, groups whole, their members near or far."""
    task = weighted(rng, LIST_TASKS)
    judge = JUDGES[judges](task, rng)
    draw = groups_for_task(world, task, rng)
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
    return "".join(f"{item.prompt} {judge.says(item, rng)}\n\n" for item in ordered)


def lone_claim(world: World, rng: random.Random) -> str:
    """One item alone, judged by a passer-by."""
    task = weighted(rng, LIST_TASKS)
    item = rng.choice(groups_for_task(world, task, rng)(1))
    return f"{item.prompt} {PASSER_BY.says(item, rng)}\n\n"


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
    """Plain sentences about the world; a misconception is repeated in most of its mentions."""
    sentences = []
    for _ in range(rng.randint(4, 10)):
        query = rng.choice(world.by_kind[weighted(rng, KINDS | {"harmful": 0.0})])
        core = query.believed if rng.random() < 0.8 else query.right
        response = manners(core, rng, 0.1)
        if query.kind in ("howto", "harmless"):
            purpose = query.text.removeprefix("How do I ").removesuffix("?")
            sentences.append(f"To {purpose}, {response.core}.")
        else:
            sentences.append(Response(response.core, "", response.filler).text)
    return " ".join(sentences)
