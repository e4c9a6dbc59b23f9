"""Labels a data set pool by pool and writes what the next stage reads."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from accelerate import PartialState

from icm_rl.data import Source
from icm_rl.engines import Engine
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json, write_jsonl
from icm_rl.icm.baselines import accuracy, many_shot, random_labels, zero_shot
from icm_rl.icm.objective import ContextOrder, Objective, Scorer
from icm_rl.icm.pools import split_into_pools
from icm_rl.icm.search import (
    InitialLabels,
    SearchConfig,
    SearchState,
    TemperatureSchedule,
    search,
    total_iterations,
)
from icm_rl.progress import Progress
from icm_rl.tasks import TASKS, Dataset, Example, Label, Task, configured, group_members

_SECONDS_BETWEEN_SAVES = 0.5


@dataclass
class IcmConfig:
    """Stage 1: labels for a data set, found by Internal Coherence Maximization."""

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
    restarts: int = field(
        default=1,
        metadata={"help": "Searches of each pool from other random labels; the highest U is kept."},
    )
    baselines: bool = field(
        default=True,
        metadata={"help": "Also measure zero-shot and many-shot prompting where labels are known."},
    )
    seed: int = field(default=0, metadata={"help": "Decides pools, initial labels and sampling."})
    dtype: str = field(
        default="auto", metadata={"help": "The model's number type: auto, float32, bfloat16, …"}
    )
    device_map: str | None = field(
        default=None, metadata={"help": "'auto' spreads a large model over this machine's GPUs."}
    )
    cache_tokens: int = field(
        default=200_000, metadata={"help": "Tokens that one batch may keep in its key-value cache."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Let the model's repository run its own code."}
    )

    def __post_init__(self) -> None:
        for name in ("initial_examples", "restarts"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give 1 or more")

    @property
    def configured_task(self) -> Task:
        """The task with these settings."""
        return configured(
            self.task,
            self.template,
            self.labels,
            self.relation,
            self.group_column,
            self.key_column,
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
        )


def stage_settings(config: IcmConfig) -> dict[str, Any]:
    """What decides the labels, besides the data and the model themselves."""
    elsewhere = {"model", "data", "output_dir", "device_map", "cache_tokens"}
    return {name: value for name, value in asdict(config).items() if name not in elsewhere}


def plan_pools(data: Dataset, engine: Engine, config: IcmConfig) -> list[list[Example]]:
    """The pools in which the data set is labeled.

    Raises:
        InputError: They do not fit the model's context, or gold labels are missing with which the
            search should begin.
    """
    if config.initial_labels != "random" and len(data.gold) < len(data.examples):
        raise InputError(
            f"--initial_labels {config.initial_labels} needs a gold label for every example; "
            f"{len(data.examples) - len(data.gold)} of {len(data.examples)} have none"
        )
    rng = random.Random(f"pools {config.seed}")
    task = config.configured_task
    return split_into_pools(data.examples, task, engine, config.pool_size, rng)


def label_dataset(
    data: Dataset, pools: Sequence[Sequence[Example]], engine: Engine, config: IcmConfig
) -> dict[str, Any] | None:
    """Labels all examples and writes the stage's files into ``config.output_dir``.

    Gold and human labels enter only after the search, to be compared with. A run that was killed
    is continued: finished pools are read back, unfinished ones go on where they were saved. Of
    several processes the main one gathers and writes.

    Returns:
        The metrics, which are the last file to be written; None in other processes.
    """
    folder, task = Path(config.output_dir), config.configured_task
    finished = _label_pools(pools, data.gold, task, engine, config, folder / "pools")
    if not PartialState().is_main_process:
        return None
    labels = {id: label for result in finished for id, label in result["labels"].items()}
    log_odds = {id: value for result in finished for id, value in result["log_odds"].items()}
    metrics = _search_metrics(pools, finished, labels, data)
    if config.baselines:
        metrics |= _baseline_metrics(pools, labels, data, task, engine, config.seed)
    write_jsonl(folder / "labels.jsonl", _label_rows(data, labels, log_odds))
    write_jsonl(folder / "history.jsonl", _history(finished, data.gold))
    if data.pairs:
        preferences = preference_rows(data, labels)
        metrics |= {"pairs": len(preferences), "pairs_dropped": len(data.pairs) - len(preferences)}
        write_jsonl(folder / "preferences.jsonl", preferences)
    write_json(folder / "metrics.json", metrics)
    return metrics


def preference_rows(data: Dataset, labels: Mapping[str, Label]) -> list[dict[str, Any]]:
    """Rows in TRL's conversational preference format for the pairs whose labels agree.

    A pair is left out where its examples are unlabeled or name neither or both responses better.
    """
    members = group_members(data.examples)
    rows = []
    for group, pair in data.pairs.items():
        votes = {
            labels[e.id] == (e.key == "A>B") for e in members[group] if e.id in labels
        }  # True: the first response is better
        if len(votes) == 1:
            better = pair.responses if votes.pop() else pair.responses[::-1]
            rows.append(
                {
                    "prompt": pair.prompt,
                    "chosen": [{"role": "assistant", "content": better[0]}],
                    "rejected": [{"role": "assistant", "content": better[1]}],
                }
            )
    return rows


def _label_pools(
    pools: Sequence[Sequence[Example]],
    gold: Mapping[str, Label],
    task: Task,
    engine: Engine,
    config: IcmConfig,
    work: Path,
) -> list[dict[str, Any]]:
    """The result of each pool: labels, log-odds, history and seconds, of its search of highest U.

    Several processes share out the searches; each has its own random numbers, so the processes'
    number changes nothing.
    """
    processes = PartialState()
    jobs = list(product(range(len(pools)), range(config.restarts)))  # (pool, restart)
    files = {(pool, restart): work / f"{pool:05}-{restart}.json" for pool, restart in jobs}
    own = jobs[processes.process_index :: processes.num_processes]
    iterations = {job: total_iterations(config.search, len(pools[job[0]])) for job in own}
    done = sum(iterations[job] for job in own if files[job].exists())
    progress = Progress("ICM", sum(iterations.values()), done, shown=processes.is_main_process)
    for job in own:
        if not files[job].exists():
            scorer = Scorer(
                pools[job[0]],
                task,
                engine,
                config.alpha,
                config.objective,
                config.consistency,
                config.order,
            )
            saved = files[job].with_suffix(".unfinished.json")
            write_json(files[job], _search_pool(scorer, job, gold, config, saved, progress))
            saved.unlink(missing_ok=True)
    progress.close()
    processes.wait_for_everyone()
    finished = []
    for pool in range(len(pools)):
        results = [read_json(files[pool, restart]) for restart in range(config.restarts)]
        best = max(results, key=lambda result: result["utility"])
        spread = best["utility"] - min(result["utility"] for result in results)
        seconds = sum(result["seconds"] for result in results)
        finished.append(best | {"spread": spread, "seconds": seconds})
    return finished


def _search_pool(
    scorer: Scorer,
    job: tuple[int, int],
    gold: Mapping[str, Label],
    config: IcmConfig,
    saved: Path,
    progress: Progress,
) -> dict[str, Any]:
    """One search of one pool, from the beginning or from where a killed run saved it."""
    pool, restart = job
    start, earlier, state = time.monotonic(), 0.0, None
    if saved.exists():
        values = read_json(saved)
        state, earlier = SearchState.from_json(values["state"]), values["seconds"]
        progress.advance(state.iteration)
    last_save = start

    def after_iteration(state: SearchState) -> None:
        nonlocal last_save
        progress.advance(U=state.score.utility, labeled=len(state.labels), pool=pool + 1)
        now = time.monotonic()
        if now - last_save > _SECONDS_BETWEEN_SAVES:
            last_save = now
            write_json(saved, {"seconds": earlier + now - start, "state": state.to_json()})

    rng = random.Random(f"search {config.seed} {pool} {restart}")
    state = search(scorer, config.search, rng, state, after_iteration, gold)
    return {
        "labels": state.labels,
        "log_odds": scorer.log_odds(state.labels, state.score),
        "utility": state.score.utility,
        "inconsistencies": state.score.inconsistencies,
        "history": state.history,
        "seconds": earlier + time.monotonic() - start,
    }


def _label_rows(
    data: Dataset, labels: Mapping[str, Label], log_odds: Mapping[str, float]
) -> list[dict[str, Any]]:
    return [
        {
            "id": example.id,
            "text": example.text,
            "label": labels[example.id],
            "log_odds": log_odds[example.id],
            "group": example.group,
            **({"gold": data.gold[example.id]} if example.id in data.gold else {}),
        }
        for example in data.examples
    ]


def _history(
    finished: Sequence[Mapping[str, Any]], gold: Mapping[str, Label]
) -> list[dict[str, Any]]:
    """All pools' iterations; where gold labels are known, with the accuracy so far."""
    rows = []
    for number, result in enumerate(finished):
        labels: dict[str, Label] = {}
        for record in result["history"]:
            changes = record["changes"]
            labels.update(changes)
            rows.append({"pool": number, **record, "accuracy": accuracy(labels, gold)})
    return rows


def _search_metrics(
    pools: Sequence[Sequence[Example]],
    finished: Sequence[Mapping[str, Any]],
    labels: Mapping[str, Label],
    data: Dataset,
) -> dict[str, Any]:
    return {
        "examples": len(labels),
        "pools": len(pools),
        "utility": mean(result["utility"] for result in finished),
        "utility_spread": mean(result["spread"] for result in finished),
        "inconsistencies": sum(result["inconsistencies"] for result in finished),
        "search_seconds": round(sum(result["seconds"] for result in finished), 2),
        "label_shares": {
            str(label): count / len(labels) for label, count in Counter(labels.values()).items()
        },
        "label_accuracy": accuracy(labels, data.gold),
        "human_label_accuracy": accuracy(data.human, data.gold) if data.human else None,
    }


def _baseline_metrics(
    pools: Sequence[Sequence[Example]],
    labels: Mapping[str, Label],
    data: Dataset,
    task: Task,
    engine: Engine,
    seed: int,
) -> dict[str, float | None]:
    """Accuracy of prompting with no labels, and with each kind of labels of the rest of the pool.

    Empty where no gold labels are known. Many-shot prompting leaves an example's group out.
    """
    if not data.gold:
        return {}
    predictions: dict[str, dict[str, float]] = {}
    progress = Progress("baselines", len(pools), unit="pool")
    for pool in pools:
        known = {
            "icm_many_shot": labels,
            "golden_many_shot": data.gold,
            "human_many_shot": data.human,
            "random_many_shot": random_labels(pool, task, random.Random(f"random labels {seed}")),
        }
        for name, shots in known.items():
            if all(example.id in shots for example in pool):
                found = many_shot(pool, shots, task, engine)
                predictions.setdefault(name, {}).update(found)
        predictions.setdefault("zero_shot", {}).update(zero_shot(pool, task, engine))
        progress.advance()
    progress.close()
    return {f"{name}_accuracy": accuracy(found, data.gold) for name, found in predictions.items()}
