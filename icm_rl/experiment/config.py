"""The settings of an experiment, and the cells that it is made of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from icm_rl.errors import InputError
from icm_rl.icm.config import parse_icm
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods import Method, Need, load_method, settings_of
from icm_rl.settings import EXECUTION
from icm_rl.tasks import Dataset


@dataclass
class ExperimentConfig(FinetuneConfig):
    """Ways to label, compared: labels of a training split, then what they teach on a test split."""

    models: list[str] = field(
        default_factory=lambda: ["miniature"], metadata={"help": "The base models."}
    )
    tasks: dict = field(
        default_factory=dict,
        metadata={
            "help": "In the --config: by name, the settings of recipes/icm.py that make a task, "
            "and 'test_data', the rows of its test split; both splits with gold labels."
        },
    )
    methods: dict = field(
        default_factory=dict,
        metadata={
            "help": "In the --config: by name, the settings of recipes/icm.py that label. "
            "'search/1' and 'search/3' are one line of the frontier. 'as_right_as: NAME' gives "
            "'perturbed' that one's accuracy, 'of: [NAME, …]' gives 'ensemble' its members."
        },
    )
    reference: str = field(
        default="search", metadata={"help": "The method that the others are compared with."}
    )
    seeds: Annotated[int, Ge(1)] = field(default=5, metadata={"help": "Seeds, counted from 0."})
    objective: Literal["centered", "mean_log_odds"] = field(
        default="centered",
        metadata={"help": "By which log-odds the test split's labels are decided, of all methods."},
    )
    shots: Annotated[int, Ge(1)] = field(
        default=256,
        metadata={"help": "Most labeled examples that stand in a test example's context."},
    )
    fine_tune: bool = field(
        default=True,
        metadata={"help": "Also label the test split by models that learned each method's labels."},
    )
    dtype: str = field(default="auto", metadata={"help": "The models' number type."})
    device_map: Annotated[str | None, EXECUTION] = field(
        default=None, metadata={"help": "Spread the models over devices ('auto')."}
    )
    cache_tokens: Annotated[int, Ge(1), EXECUTION] = field(
        default=200_000, metadata={"help": "Tokens in the key-value cache."}
    )
    world_seed: int | None = field(
        default=None,
        metadata={"help": "Write the miniature world's files of this seed to OUTPUT_DIR/data."},
    )
    output_dir: Annotated[str, EXECUTION] = field(
        default="runs/experiment", metadata={"help": "Folder of the cells, the results, the page."}
    )
    processes: Annotated[int, Ge(1), EXECUTION] = field(
        default=1, metadata={"help": "Processes that share out the cells, and the CPU cores."}
    )

    def __post_init__(self) -> None:
        self.examples_in_a_pass(processes=1)
        for name in ("tasks", "methods"):
            if not getattr(self, name):
                raise InputError(f"{name} are missing: name them in the --config")
        if self.reference not in self.methods:
            raise InputError(
                f"--reference '{self.reference}' is not one of the methods: "
                f"{', '.join(self.methods)}"
            )


@dataclass(frozen=True)
class Cell:
    """One model, task, method and seed.

    Attributes:
        model: The base model.
        task: The task's name.
        method: The method's name.
        seed: The seed.
        flags: The command line of recipes/icm.py, without what other cells decide.
        test_data: The rows of the test split.
        after: The methods whose cells must be done before.
        folder: Where its labels and figures are.
    """

    model: str
    task: str
    method: str
    seed: int
    flags: tuple[str, ...]
    test_data: str
    after: tuple[str, ...]
    folder: Path

    @property
    def figures(self) -> Path:
        """Its last file."""
        return self.folder / "figures.json"

    def sibling(self, method: str) -> Path:
        """The folder of the same cell by another method."""
        return self.folder.parents[1] / _file_name(method) / str(self.seed)


def cells(config: ExperimentConfig) -> list[Cell]:
    """All cells, those that wait for others last; every setting has been looked at.

    Raises:
        InputError: A setting is not known or does not fit, or a file cannot be read.
    """
    for task, of_task in config.tasks.items():
        _check_task(config, task, of_task)
    found = list(_cells(config))
    found.sort(key=lambda cell: len(cell.after) > 0)
    return found


def _cells(config: ExperimentConfig) -> Iterator[Cell]:
    for model, name in short_names(config.models).items():
        for task, of_task in config.tasks.items():
            for method, of_method in config.methods.items():
                for seed in range(config.seeds):
                    own = (_file_name(name), task, _file_name(method), str(seed))
                    folder = Path(config.output_dir).joinpath("cells", *own)
                    flags = method_flags({"signals": False, **of_task}, of_method) + _flags(
                        {
                            **{"model": model, "seed": seed, "dtype": config.dtype},
                            **{"output_dir": str(folder / "labels"), "baselines": False},
                        }
                    )
                    test_data = str(of_task["test_data"])
                    after = _waits_for(of_method)
                    yield Cell(model, task, method, seed, flags, test_data, after, folder)


_WAITS = ("as_right_as", "of")
"""What a method's settings say of other methods."""


def _waits_for(of_method: Mapping[str, Any]) -> tuple[str, ...]:
    named = [of_method[name] for name in _WAITS if name in of_method]
    return tuple(n for one in named for n in (one if isinstance(one, list) else [one]))


def method_flags(of_task: Mapping[str, Any], of_method: Mapping[str, Any]) -> tuple[str, ...]:
    """The command line of recipes/icm.py for a method on a task, both as the config has them.

    Raises:
        InputError: There is no such method.
    """
    own = settings_of(load_method(of_method.get("method", "search")))
    settings = {k: v for k, v in of_task.items() if k not in ("test_data", *_POOLED) or k in own}
    return _flags(settings | {k: v for k, v in of_method.items() if k not in _WAITS})


_POOLED = ("pool_size",)
"""Settings of a method that may stand at a task, since it decides on them."""


def _flags(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as a command line."""
    words: list[str] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            words += [f"--{name}", json.dumps(value)]
        elif isinstance(value, list):
            words += [f"--{name}", *map(str, value)]
        elif value is not None:
            words += [f"--{name}", str(value)]
    return tuple(words)


def _check_task(config: ExperimentConfig, task: str, of_task: Mapping[str, Any]) -> None:
    """Reads both splits, and every method's settings with this task's.

    Raises:
        InputError: Something is missing or does not fit.
    """
    if "test_data" not in of_task:
        raise InputError(f"tasks: {task}: 'test_data' is missing; name the test split's rows")
    splits: list[Dataset] = []
    for method, of_method in config.methods.items():
        for name in _waits_for(of_method):
            if name not in config.methods or _waits_for(config.methods[name]):
                raise InputError(
                    f"methods: {method}: '{name}' is no method that can be labeled by before it"
                )
        try:
            icm, kind = parse_icm(method_flags(of_task, of_method))
            if not splits:
                data = icm.configured_task
                splits = [data.load(icm.source, icm.limit), data.load(str(of_task["test_data"]))]
        except InputError as error:
            raise InputError(f"{task}, {method}: {error}") from None
        _check_gold(task, method, kind, splits)


def _check_gold(task: str, method: str, kind: Method, splits: Sequence[Dataset]) -> None:
    for name, data in zip(("training", "test"), splits, strict=True):
        if len(data.gold) < len(data.examples):
            raise InputError(
                f"tasks: {task}: {len(data.examples) - len(data.gold)} examples of the {name} "
                "split have no gold label, by which labels are measured; give them"
            )
    if Need.HUMAN in kind.needs and len(splits[0].human) < len(splits[0].examples):
        raise InputError(
            f"tasks: {task}: not every example of the training split has a human label, which the "
            f"method '{method}' needs; leave the method or the task out"
        )


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Each model's last name, and as many of the folders before it as tell them all apart."""
    names, depth = {model: Path(model).name for model in models}, 1
    while len(set(names.values())) < len(names):
        depth += 1
        names = {model: "/".join(Path(model).parts[-depth:]) for model in models}
    return names


def _file_name(name: str) -> str:
    return name.replace("/", "-")
