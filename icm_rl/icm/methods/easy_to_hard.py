"""What is easy, with labels that anyone can check, teaches the format; the hard follows.

"Three Concrete Challenges and Two Hopes for the Safety of Unsupervised Elicitation" (2026): a model
that is shown labels of easy claims judges hard ones of another kind.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from string import Formatter
from typing import Annotated, ClassVar, Literal, NamedTuple

from annotated_types import Ge

from icm_rl.errors import InputError
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods.answers import answered
from icm_rl.icm.methods.base import Cost, Job, Labeling, MadeConsistent, Need
from icm_rl.icm.methods.learned import learned
from icm_rl.icm.objective import LogProbs
from icm_rl.icm.pools import check_fit, example_tokens, how_many_fit
from icm_rl.icm.prompting import Shots, few_shot_log_probs, zero_shot_log_probs
from icm_rl.settings import INPUT
from icm_rl.tasks import Example, Task


@dataclass
class EasyToHard(FinetuneConfig, MadeConsistent):
    """Each example is asked after easy ones with their labels, or of a model that learned them."""

    name: ClassVar[str] = "easy_to_hard"
    summary: ClassVar[str] = "after easy claims about numbers, whose labels are known"
    shares_out: ClassVar[bool] = True

    easy: Annotated[str | None, INPUT] = field(
        default=None,
        metadata={
            "help": "Easy examples with gold labels, in the task's columns; by default sums and "
            "comparisons of numbers, made up."
        },
    )
    easy_examples: Annotated[int, Ge(2)] = field(
        default=32, metadata={"help": "How many are shown or learned."}
    )
    learn_by: Literal["few_shot", "fine_tuning"] = field(
        default="few_shot",
        metadata={"help": "'few_shot': they stand in each context; or 'fine_tuning' on them."},
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.CONTEXTS if self.learn_by == "few_shot" else Need.TRAINING})

    def check(self, job: Job) -> None:
        shots = self._shots(job)
        if self.learn_by == "fine_tuning":
            return
        tokens = {e.id: example_tokens(e, job.task, job.engine) for e in job.examples}
        room = check_fit(job.examples, tokens, job.engine) - max(tokens.values())
        fit = how_many_fit([example_tokens(e, job.task, job.engine) for e, _ in shots], room)
        if fit < len(shots):
            raise InputError(
                f"--easy_examples {len(shots)}: {fit} of them fit the context beside the longest "
                "example; set fewer"
            )

    def label(self, job: Job) -> Labeling:
        shots, cost = self._shots(job), Cost()
        if self.learn_by == "fine_tuning":
            engine, cost = learned(job, shots, self, "model")
            job = replace(job, engine=engine)

        def ask(examples: Sequence[Example]) -> LogProbs:
            if self.learn_by == "fine_tuning":
                return zero_shot_log_probs(examples, job.engine)
            return few_shot_log_probs(examples, [shots] * len(examples), job.task, job.engine)

        found = answered(job, self.name, ask, self.consistency, self.centered)
        return replace(found, cost=found.cost + cost)

    def _shots(self, job: Job) -> Shots:
        """The easy examples with their labels, as many of each label, in random order.

        Raises:
            InputError: None are known for the task's template, or there are too few.
        """
        rng = random.Random(f"easy {job.seed}")
        if self.easy is None:
            return made_up(job.task, self.easy_examples, rng)
        data = job.task.load(self.easy)
        known = [e for e in data.examples if e.id in data.gold]
        rng.shuffle(known)
        shots = [
            (e, label)
            for label in job.task.verbalizers
            for e in [e for e in known if data.gold[e.id] == label][: self.easy_examples // 2]
        ]
        if len(shots) < self.easy_examples // 2 * len(job.task.verbalizers):
            raise InputError(
                f"--easy {self.easy}: has fewer than {self.easy_examples // 2} examples of a "
                "label; give more, or set --easy_examples lower"
            )
        rng.shuffle(shots)
        return shots


class _Sum(NamedTuple):
    """A question about numbers, its right answer and a wrong one, and how each is argued for."""

    question: str
    right: str
    wrong: str
    because: str
    because_wrong: str


def made_up(task: Task, count: int, rng: random.Random) -> Shots:
    """Claims about numbers in the task's template, half of them True, in random order.

    Raises:
        InputError: The task's labels are not True and False, or its template asks for what is not
            known to be said of numbers.
    """
    names = {name for _, name, _, _ in Formatter().parse(task.template) if name is not None}
    forms = [form for fields, form in _FORMS.items() if set(fields) == names]
    if len(names) == 1:
        forms = [lambda item, right: dict.fromkeys(names, _sentence(item, right))]
    if not forms or set(task.verbalizers) != {True, False}:
        raise InputError(
            f"--easy is missing: no easy examples are known for the task '{task.name}' with its "
            "template and labels; name a file with some, in the task's columns"
        )
    labels = [k % 2 == 0 for k in range(count)]
    rng.shuffle(labels)
    return [
        (Example(f"easy-{k}", task.filled(forms[0](_drawn(rng), label)), f"easy-{k}", ""), label)
        for k, label in enumerate(labels)
    ]


def _drawn(rng: random.Random) -> _Sum:
    one, other = rng.sample(range(1, 100), 2)
    if rng.random() < 0.5:
        total = one + other
        near = total + rng.choice((-2, -1, 1, 2, 10))
        return _Sum(
            f"What is {one} + {other}?",
            str(total),
            str(near),
            f"{one} + {other} = {total}",
            f"{one} + {other} = {near}",
        )
    larger, smaller = max(one, other), min(one, other)
    return _Sum(
        f"Which number is larger, {one} or {other}?",
        str(larger),
        str(smaller),
        f"{larger} is larger than {smaller}",
        f"{smaller} is larger than {larger}",
    )


def _sentence(item: _Sum, right: bool) -> str:
    return f"{item.because if right else item.because_wrong}."


def _compared(item: _Sum, right: bool) -> dict[str, str]:
    a, b = (item.right, item.wrong) if right else (item.wrong, item.right)
    return {"query": item.question, "a": a, "b": b}


_FORMS: Mapping[tuple[str, ...], Callable[[_Sum, bool], dict[str, str]]] = {
    ("question", "choice"): lambda item, right: {
        "question": item.question,
        "choice": item.right if right else item.wrong,
    },
    ("question", "cot"): lambda item, right: {
        "question": item.question,
        "cot": _sentence(item, right),
    },
    ("query", "response"): lambda item, right: {
        "query": item.question,
        "response": item.right if right else item.wrong,
    },
    ("query", "a", "b"): _compared,
}
"""What each template's placeholders say of numbers."""
