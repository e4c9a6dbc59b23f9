"""The settings of stage 1."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from icm_rl.data import Source
from icm_rl.engines.loading import EngineConfig
from icm_rl.errors import InputError
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.folds import FoldsConfig
from icm_rl.icm.objective import ContextOrder, Objective
from icm_rl.icm.search import InitialLabels, SearchConfig, TemperatureSchedule
from icm_rl.settings import require_at_least
from icm_rl.tasks import TASKS, Task, configured

Method = Literal["search", "folds"]

_LEAST = {
    "initial_examples": 1,
    "restarts": 1,
    "processes": 1,
    "folds": 2,
    "rounds": 1,
    "num_train_epochs": 1,
    "train_batch_size": 1,
    "lora_r": 0,
}


@dataclass
class IcmConfig(EngineConfig):
    """Stage 1: labels for a data set, found by Internal Coherence Maximization."""

    method: Method = field(
        default="search",
        metadata={
            "help": "'search': Algorithm 1, examples in each other's context, pool by pool; "
            "'folds': Algorithm 3, by fine-tuning, for sets of any size."
        },
    )
    model: str = field(
        default="miniature",
        metadata={"help": "Base model: a directory, a Hub name, or 'miniature'."},
    )
    task: str = field(
        default="preferences",
        metadata={"help": f"What is labeled: {', '.join(TASKS)}.", "choices": list(TASKS)},
    )
    data: str = field(
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
    labels: dict | str | None = field(
        default=None,
        metadata={"help": "What stands for each label; on the command line a JSON object."},
    )
    relation: str | None = field(
        default=None,
        metadata={
            "help": "Which labels of a group are consistent: exclusive, asymmetric, same_key, "
            "implication, or a function of your own, FILE.py:FUNCTION."
        },
    )
    group_column: str | None = field(
        default=None, metadata={"help": "Column that names a claim's consistency group."}
    )
    key_column: str | None = field(
        default=None, metadata={"help": "Column of what a claim asserts within its group."}
    )
    output_dir: str = field(
        default="runs/icm", metadata={"help": "Folder for labels, history, metrics, preferences."}
    )
    limit: int | None = field(
        default=None, metadata={"help": "Label only this many consistency groups, the first ones."}
    )
    pool_size: int | None = field(
        default=None,
        metadata={"help": "Examples labeled together; by default as many as fit, at most 256."},
    )
    alpha: float = field(
        default=50.0, metadata={"help": "Weight of mutual predictability in U (paper: 50, 30, 20)."}
    )
    objective: Objective = field(
        default="mean_log_odds",
        metadata={
            "help": "P(D): 'mean_log_odds' of the authors' code, or 'sum_log_prob' of the paper."
        },
    )
    consistency: bool = field(
        default=True, metadata={"help": "Count and fix inconsistent labels (off: the ablation)."}
    )
    order: ContextOrder = field(
        default="tree",
        metadata={
            "help": "Order of contexts: 'tree' shares most prefixes; 'fixed' is the authors' order."
        },
    )
    initial_examples: int = field(
        default=8, metadata={"help": "K, the examples that get labels at the start."}
    )
    initial_labels: InitialLabels = field(
        default="random",
        metadata={"help": "Of those: 'random', or the paper's ablations 'golden' and 'wrong'."},
    )
    initial_temperature: float = field(default=10.0, metadata={"help": "T_0 of the annealing."})
    final_temperature: float = field(default=0.01, metadata={"help": "T_min of the annealing."})
    cooling_rate: float = field(default=0.99, metadata={"help": "Beta of the annealing."})
    temperature_schedule: TemperatureSchedule = field(
        default="paper",
        metadata={"help": "'paper': by iteration, or 'log': by accepted changes (authors' code)."},
    )
    max_fix_rounds: int = field(
        default=10, metadata={"help": "M, the most rounds of one consistency fix."}
    )
    iterations_per_example: float = field(
        default=3.0, metadata={"help": "Iterations of the search, per example of a pool."}
    )
    try_reverse: bool = field(
        default=False,
        metadata={"help": "At a search's end, take the opposite of all labels if its U is higher."},
    )
    restarts: int = field(
        default=1,
        metadata={"help": "Searches of each pool from other random labels; the highest U is kept."},
    )
    iterative: bool = field(
        default=False,
        metadata={"help": "Fine-tune the model on the pools so far before it labels the next."},
    )
    folds: int = field(
        default=4, metadata={"help": "F of 'folds': parts, each labeled by training on the rest."}
    )
    rounds: int = field(
        default=2, metadata={"help": "G of 'folds': how often all examples are labeled again."}
    )
    learning_rate: float = field(default=1e-5, metadata={"help": "Of fine-tuning."})
    num_train_epochs: int = field(default=3, metadata={"help": "Passes of one fine-tuning."})
    train_batch_size: int = field(
        default=16, metadata={"help": "Examples in a step of fine-tuning."}
    )
    lora_r: int = field(
        default=0, metadata={"help": "Rank of fine-tuning's LoRA adapters; 0 trains all weights."}
    )
    baselines: bool = field(
        default=True,
        metadata={"help": "Also measure zero-shot and many-shot prompting where labels are known."},
    )
    push_to_hub: str | None = field(
        default=None,
        metadata={
            "help": "Upload labels and card to this data set on the Hub; it is made private."
        },
    )
    seed: int = field(default=0, metadata={"help": "Decides pools, initial labels and sampling."})
    processes: int = field(
        default=1,
        metadata={"help": "Processes on this machine that share out the searches, or the folds."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, **_LEAST)
        self.processes = max(self.processes, len(self.server or ()))
        trains = self.method == "folds" or self.iterative
        if self.server and trains:
            raise InputError(
                "--method folds and --iterative train the model, which a --server cannot; drop one"
            )
        if (self.load_in_8bit or self.load_in_4bit) and trains:
            raise InputError(
                "--method folds and --iterative train the model's weights, which are fixed when "
                "quantised; drop --load_in_8bit or --load_in_4bit"
            )

    @property
    def configured_task(self) -> Task:
        """The task with these settings.

        Raises:
            InputError: They do not fit one another.
        """
        task = configured(
            self.task,
            self.template,
            self.labels,
            self.relation,
            self.group_column,
            self.key_column,
        )
        if self.try_reverse and len(task.labels) != 2:
            raise InputError(
                f"--try_reverse is for two labels, which have an opposite, not {len(task.labels)}"
            )
        return task

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

    @property
    def search(self) -> SearchConfig:
        """The part of these settings that the search reads."""
        return SearchConfig(
            self.initial_examples,
            self.initial_labels,
            self.initial_temperature,
            self.final_temperature,
            self.cooling_rate,
            self.temperature_schedule,
            self.max_fix_rounds,
            self.iterations_per_example,
            self.try_reverse,
        )

    @property
    def finetune(self) -> FinetuneConfig:
        """The part of these settings that fine-tuning reads."""
        return FinetuneConfig(
            self.learning_rate, self.num_train_epochs, self.train_batch_size, self.lora_r
        )

    @property
    def algorithm_3(self) -> FoldsConfig:
        """The part of these settings that the method 'folds' reads."""
        return FoldsConfig(self.folds, self.rounds, self.finetune)


def stage_settings(config: IcmConfig) -> dict[str, Any]:
    """What decides the labels, besides the data and the model themselves."""
    elsewhere = {"model", "data", "output_dir", "push_to_hub"}
    elsewhere |= {
        "processes",
        "device_map",
        "cache_tokens",
        "server",
        "served_model",
        "concurrency",
        "request_timeout",
        "request_retries",
    }
    return {name: value for name, value in asdict(config).items() if name not in elsewhere}
