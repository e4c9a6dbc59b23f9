"""The search's hyperparameters, and what follows from them alone."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from icm_rl.icm.consistency import FixOptions

TemperatureSchedule = Literal["paper", "log"]
InitialLabels = Literal["random", "golden", "wrong", "zero_shot", "random_few_shot", "bootstrap"]


@dataclass
class SearchConfig:
    """The search's hyperparameters, with the paper's names and values (Appendix D.1)."""

    initial_examples: Annotated[int, Ge(1)] = field(
        default=8,
        metadata={
            "help": "K, the examples that get labels at the start; with --sweeps, or by a method's "
            "labels, all do."
        },
    )
    initial_labels: InitialLabels = field(
        default="random",
        metadata={
            "help": "Which labels the search begins with: 'random'; the paper's ablations 'golden' "
            "and 'wrong'; or those that a method gives all examples: 'zero_shot', "
            "'random_few_shot', 'bootstrap'."
        },
    )
    initial_temperature: Annotated[float, Gt(0)] = field(
        default=10.0, metadata={"help": "T_0 of the annealing."}
    )
    final_temperature: Annotated[float, Gt(0)] = field(
        default=0.01, metadata={"help": "T_min of the annealing."}
    )
    cooling_rate: Annotated[float, Ge(0)] = field(
        default=0.99, metadata={"help": "Beta of the annealing."}
    )
    temperature_schedule: TemperatureSchedule = field(
        default="paper",
        metadata={"help": "'paper': by iteration, or 'log': by accepted changes (authors' code)."},
    )
    max_fix_rounds: Annotated[int, Ge(0)] = field(
        default=10, metadata={"help": "M, the most rounds of one consistency fix."}
    )
    fix_options: FixOptions = field(
        default="one_change",
        metadata={
            "help": "What a fix tries for a pair: labels that change one of the two, 'one_change' "
            "(the authors' code), or 'all' consistent ones (the paper's text)."
        },
    )
    fix_at_any_cost: bool = field(
        default=True,
        metadata={
            "help": "Resolve what a proposal contradicts even where that lowers U, and let the "
            "temperature decide on both at once (the authors' code; by the text a fix must gain)."
        },
    )
    iterations_per_example: Annotated[float, Gt(0)] = field(
        default=3.0, metadata={"help": "Iterations of the search, per example of a pool."}
    )
    sweeps: Annotated[int, Ge(0)] = field(
        default=0,
        metadata={
            "help": "Before Algorithm 1: label all examples at random, not K, and so often all of "
            "them again at once, each by all others in a new order; go on from the highest U."
        },
    )
    try_reverse: bool = field(
        default=False,
        metadata={"help": "At a search's end, take the opposite of all labels if its U is higher."},
    )


def temperature(config: SearchConfig, iteration: int, accepted: int) -> float:
    """T at iteration n ≥ 1.

    ``paper`` is max(T_min, T_0 / (1 + β·ln n)); ``log``, of the authors' code, is
    T_0 / (1 + 2·ln(1 + m)) with m the accepted changes so far.
    """
    if config.temperature_schedule == "log":
        return config.initial_temperature / (1 + 2 * math.log(1 + accepted))
    cooled = config.initial_temperature / (1 + config.cooling_rate * math.log(iteration))
    return max(config.final_temperature, cooled)


def total_iterations(config: SearchConfig, examples: int) -> int:
    """How many iterations a pool of so many examples takes, sweeps included."""
    return config.sweeps + math.ceil(config.iterations_per_example * examples)
