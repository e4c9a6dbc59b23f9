"""The settings of stage 1 that no method decides on: what is labeled, by which model, where to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, overload

from annotated_types import Ge

from icm_rl.data import Source
from icm_rl.engines.loading import EngineConfig
from icm_rl.errors import InputError
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods import METHODS, Method, Need, load_method, settings_of
from icm_rl.settings import EXECUTION, FUNCTION, INPUT, given, parse
from icm_rl.shards import Shard
from icm_rl.tasks import RESPONSE_TASKS, TASKS, Task, configured
from icm_rl.tasks.relations import RELATIONS

_DEFAULT_METHOD = "search"

Pairing = Literal["best", "all"]


def _listed() -> str:
    return "; ".join(f"'{name}': {method.summary}" for name, method in METHODS.items())


@dataclass
class IcmConfig(EngineConfig):
    """Stage 1: labels for a data set without labels."""

    method: Annotated[str, FUNCTION] = field(
        default=_DEFAULT_METHOD,
        metadata={
            "help": f"How the data set is labeled; {_listed()}; or a class of your own, "
            "FILE.py:CLASS. Each has settings of its own, which --help shows beside --method."
        },
    )
    model: Annotated[str, INPUT] = field(
        default="miniature",
        metadata={
            "help": "Base model: a directory, a .gguf file, a Hub name, 'miniature' or 'smollm2'."
        },
    )
    task: str = field(
        default="preferences",
        metadata={"help": f"What is labeled: {', '.join(TASKS)}.", "choices": list(TASKS)},
    )
    data: Annotated[str, INPUT] = field(
        default="",
        metadata={
            "help": "A .json, .jsonl, .csv or .parquet file, or a name on the Hub; by default the "
            "task's data set on the Hub."
        },
    )
    data_config: str | None = field(
        default=None, metadata={"help": "Configuration of a data set on the Hub."}
    )
    data_split: str = field(default="train", metadata={"help": "Split of a data set on the Hub."})
    template: str | None = field(
        default=None,
        metadata={
            "help": "An example's text: {columns} of a claim, or {query}, {a} and {b} of a pair."
        },
    )
    verbalizers: dict | str | None = field(
        default=None,
        metadata={
            "help": "The words that stand for each label; on the command line a JSON object.",
            "aliases": ["--labels"],
        },
    )
    relation: Annotated[str | None, FUNCTION] = field(
        default=None,
        metadata={
            "help": f"Which labels of a group are consistent: {', '.join(RELATIONS)}, or a "
            "function of your own, FILE.py:FUNCTION."
        },
    )
    group_column: str | None = field(
        default=None, metadata={"help": "Column that names a claim's consistency group."}
    )
    key_column: str | None = field(
        default=None, metadata={"help": "Column of what a claim asserts within its group."}
    )
    highest_grade: Annotated[int | None, Ge(2)] = field(
        default=None,
        metadata={"help": "Of --task grades: the highest grade; the lowest is 1. By default 5."},
    )
    pairing: Pairing | None = field(
        default=None,
        metadata={
            "help": "Preferences among a prompt's --task responses or grades: 'best', the best "
            "against each other one (the default), or 'all'."
        },
    )
    min_log_odds: Annotated[float | None, Ge(0)] = field(
        default=None,
        metadata={"help": "Leave preferences of lower log-odds out; by default none."},
    )
    output_dir: Annotated[str, EXECUTION] = field(
        default="runs/icm", metadata={"help": "Folder for labels, history, metrics, preferences."}
    )
    limit: Annotated[int | None, Ge(1)] = field(
        default=None, metadata={"help": "Label only this many consistency groups, the first ones."}
    )
    baselines: bool = field(
        default=True,
        metadata={
            "help": "Also measure zero-shot prompting, and many-shot prompting where the method "
            "labels in contexts, if gold labels are known."
        },
    )
    signals: bool = field(
        default=True,
        metadata={
            "help": "Also ask the model about up to 48 examples after other labels than those "
            "found, which says without gold labels how far these can be trusted."
        },
    )
    push_to_hub: Annotated[str | None, EXECUTION] = field(
        default=None,
        metadata={
            "help": "Upload labels and card to this data set on the Hub; it is made private."
        },
    )
    seed: int = field(default=0, metadata={"help": "Decides pools, initial labels and sampling."})
    shard: Annotated[str | None, EXECUTION] = field(
        default=None,
        metadata={
            "help": "I/N: do only the I-th of N shares of the work, as a job of an array; the same "
            "command without it does what is left and writes the labels."
        },
    )
    processes: Annotated[int, Ge(1), EXECUTION] = field(
        default=1,
        metadata={
            "help": "Processes on this machine that share out the work; where GPUs answer, one on "
            "each at most."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        Shard.parse(self.shard)
        self.processes = max(self.processes, len(self.server or ()))
        if self.ray_actors and self.processes > 1:
            raise InputError("--ray_actors are asked by one process; drop --processes")
        if self.pairing and self.task not in RESPONSE_TASKS:
            raise InputError(
                f"--pairing is for --task {' or '.join(RESPONSE_TASKS)}, not {self.task}; drop it"
            )

    @property
    def configured_task(self) -> Task:
        """The task with these settings.

        Raises:
            InputError: They do not fit one another.
        """
        return configured(
            self.task,
            template=self.template,
            verbalizers=self.verbalizers,
            relation=self.relation,
            group_column=self.group_column,
            key_column=self.key_column,
            highest_grade=self.highest_grade,
        )

    @property
    def source(self) -> Source:
        """Where the data are.

        Raises:
            InputError: None is given, and the task has none on the Hub.
        """
        if self.data:
            return Source(self.data, self.data_config, self.data_split)
        hub = TASKS[self.task].hub
        if hub is None:
            raise InputError(f"--data is missing: the task '{self.task}' is for data of your own")
        return hub


@overload
def parse_icm(args: Sequence[str] | None = None) -> tuple[IcmConfig, Method]: ...
@overload
def parse_icm(args: Sequence[str] | None, one: type, /, *more: type) -> tuple[Any, ...]: ...
def parse_icm(args: Sequence[str] | None = None, *more: type) -> tuple[Any, ...]:
    """The settings of the stage, the method with its own, and what more dataclasses have.

    Raises:
        InputError: A setting is not known, belongs to another method, or does not go with the
            others.
    """
    kind = load_method(given("method", _DEFAULT_METHOD, args))
    own = settings_of(kind)
    elsewhere = {
        name: f"--method {other.name}, not of {kind.name}"
        for other in METHODS.values()
        for name in settings_of(other)
        if name not in own
    }
    others = [
        f"--method {other.name}: {', '.join(settings_of(other))}."
        for other in METHODS.values()
        if other is not kind
    ]
    config, method, *added = parse(
        [IcmConfig, kind, *more],
        args,
        elsewhere,
        f"Shown are the settings of --method {kind.name}. Those of others: {' '.join(others)}",
    )
    _check_needs(config, method)
    return config, method, *added


def _check_needs(config: IcmConfig, method: Method) -> None:
    """Checks that the model is where the method can use it.

    Raises:
        InputError: It is on a server, or quantised.
    """
    for asked, name in ((config.server, "a --server"), (config.ray_actors, "--ray_actors")):
        if asked and Need.HIDDEN_STATES in method.needs:
            raise InputError(
                f"--method {method.name} needs hidden states of the model, which {name} does not "
                "give; drop one of them"
            )
    if config.server and Need.TRAINING in method.needs:
        adapted = isinstance(method, FinetuneConfig) and method.lora_r > 0
        if config.server_kind != "vllm" or not adapted:
            raise InputError(
                f"--method {method.name} trains the model; of what was trained a --server loads "
                "LoRA adapters alone, if it is vLLM; set --lora_r, or drop --server"
            )
    if (config.load_in_8bit or config.load_in_4bit) and Need.TRAINING in method.needs:
        raise InputError(
            f"--method {method.name} trains the model's weights, which are fixed when quantised; "
            "drop --load_in_8bit or --load_in_4bit"
        )
    if config.shard and (Need.TRAINING in method.needs or not method.shares_out):
        raise InputError(
            f"--method {method.name}, with these settings, is no work that shards could share out; "
            "drop --shard"
        )
    if config.device_map and Need.TRAINING in method.needs:
        raise InputError(
            f"--method {method.name} trains the model, which accelerate launch shards, and not "
            "--device_map; drop it"
        )
