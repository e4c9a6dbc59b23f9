"""The seam between a data set that is to be labeled and a way to label it."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

from icm_rl.engines import Engine
from icm_rl.errors import InputError
from icm_rl.icm.finetune import BaseModel
from icm_rl.icm.objective import Labels, Scorer
from icm_rl.icm.pools import split_into_pools
from icm_rl.shards import Shard
from icm_rl.tasks import Example, Task


class Need(StrEnum):
    """What a method asks for beside examples, a task and an engine."""

    CONTEXTS = "contexts"
    TRAINING = "training"
    HIDDEN_STATES = "hidden states"
    GOLD = "gold labels"
    HUMAN = "human labels"


@dataclass(frozen=True)
class Cost:
    """What labeling took.

    Attributes:
        seconds: Wall-clock time, of all processes and all starts together.
        prompt_tokens: The tokens of all prompts.
        computed_tokens: Those of them that were computed; the others were shared or kept.
        missing_labels: How many log-probabilities were only upper bounds.
        trained_tokens: The tokens of all examples on which a model was trained, each pass counted.
    """

    seconds: float = 0.0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    missing_labels: int = 0
    trained_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Cost)}
        return Cost(**sums)

    def __sub__(self, other: "Cost") -> "Cost":
        parts = {f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(Cost)}
        return Cost(**parts)

    @classmethod
    def so_far(cls, engine: Engine) -> "Cost":
        """The time now, and what an engine has counted; of two of them the difference counts."""
        return cls(
            time.monotonic(), engine.prompt_tokens, engine.computed_tokens, engine.missing_labels
        )

    def to_json(self) -> dict[str, Any]:
        """The cost as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Labeling:
    """What a method found.

    Attributes:
        labels: Each example's label.
        log_odds: How sure the method is of each: the log-odds of the label against all others.
        cost: What it took.
        history: One record an iteration, with its ``pool``, its ``iteration``, how many examples
            are ``labeled`` by then, and the labels that it changed under ``changes``; empty where
            there are none.
        utility: U = α · P_θ(D) − I(D) of the labels, where the method has one.
        figures: What else the method says of itself, by the names of ``metrics.json``.
        pools: The examples that stood in each other's contexts, where they did.
    """

    labels: Labels
    log_odds: Mapping[str, float]
    cost: Cost
    history: Sequence[Mapping[str, Any]] = ()
    utility: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    pools: Sequence[Sequence[Example]] = ()


@dataclass
class Job:
    """A data set to be labeled.

    Attributes:
        examples: The data set, without its labels.
        task: Gives the labels and the relation.
        engine: Answers "log P(label | context)".
        seed: Decides all chance.
        folder: Where a method may keep what it has done, to continue when it was killed.
        base: The model that learns, where the method trains one.
        gold: Gold labels; empty unless the method says that it needs them.
        human: Human labels; likewise.
        shard: The share of the work that this run does.
        accuracy: The share of some labels that are the gold ones, to be shown while one waits;
            None where no gold label is known.
    """

    examples: Sequence[Example]
    task: Task
    engine: Engine
    seed: int
    folder: Path
    base: BaseModel | None = None
    gold: Labels = field(default_factory=dict)
    human: Labels = field(default_factory=dict)
    shard: Shard = field(default_factory=Shard)
    accuracy: Callable[[Labels], float | None] = lambda labels: None
    _pools: dict[int | None, list[list[Example]]] = field(default_factory=dict)

    def pools(self, size: int | None) -> list[list[Example]]:
        """The examples in parts that fit the model's context, groups kept whole.

        Args:
            size: Examples in a part, or None for as many as fit, at most 256.

        Raises:
            InputError: An example, a group or the size does not fit.
        """
        if size not in self._pools:
            rng = random.Random(f"pools {self.seed}")
            self._pools[size] = split_into_pools(self.examples, self.task, self.engine, size, rng)
        return self._pools[size]

    def trained(self, examples: Sequence[Example], epochs: int) -> Cost:
        """What a model reads that is trained on these examples."""
        return Cost(trained_tokens=epochs * sum(self.engine.count_tokens(e.text) for e in examples))

    @contextmanager
    def metered(self) -> Iterator[list[Cost]]:
        """Puts what is spent meanwhile into the list that it gives."""
        spent: list[Cost] = []
        before = Cost.so_far(self.engine)
        yield spent
        spent.append(Cost.so_far(self.engine) - before)


class Method(ABC):
    """A way to label a data set: a dataclass whose fields are its settings.

    A method is one file and a line in ``icm_rl.icm.methods.METHODS``, or a class in a file of the
    user's own, ``--method FILE.py:CLASS``.

    Attributes:
        name: Its name on the command line.
        summary: Completes the sentence "labeled …": for ``--help``, the card and the report.
        shares_out: Whether shards can share its work out, by ``Job.shard``.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    shares_out: ClassVar[bool] = False

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks for, with these settings."""
        return frozenset()

    @property
    def centered(self) -> bool:
        """Whether it decides by log-odds less their center over the examples; so do baselines."""
        return False

    def scorer(self, job: Job, pool: Sequence[Example], engine: Engine) -> Scorer | None:
        """What scores labels of a pool by the U that the method maximizes, if it maximizes one."""
        return None

    def check(self, job: Job) -> None:  # noqa: B027 (most methods can label anything)
        """Looks before anything is written whether the data set can be labeled.

        Raises:
            InputError: It cannot, with these settings or by this model.
        """

    @abstractmethod
    def label(self, job: Job) -> Labeling:
        """Labels the data set.

        Several processes may call it; each has its share of the work and returns the whole.
        """


def check_two_labels(method: Method, job: Job) -> None:
    """Looks whether a label has one opposite.

    Raises:
        InputError: The task has more labels than two.
    """
    if len(job.task.verbalizers) != 2:
        raise InputError(
            f"--method {method.name} is for two labels, not {len(job.task.verbalizers)}"
        )


@dataclass
class ByLogOdds(Method):
    """A method whose labels are the most likely ones, by log-odds as they are or centered."""

    objective: Literal["centered", "mean_log_odds"] = field(
        default="centered",
        metadata={
            "help": "By which log-odds labels are decided: 'centered', less each label's center "
            "over all examples, where they part into two groups, or 'mean_log_odds', as they are."
        },
    )

    @property
    def centered(self) -> bool:
        return self.objective == "centered"


@dataclass
class MadeConsistent(ByLogOdds):
    """Such a method, after which the most confident example of a group decides on the others."""

    consistency: bool = field(
        default=True,
        metadata={"help": "The most confident example of a group decides on it (Algorithm 4)."},
    )
