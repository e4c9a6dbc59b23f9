"""Labels a data set pool by pool and writes what the next stage reads."""

import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel

from icm_rl.engines import Engine, LocalEngine
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json, write_jsonl
from icm_rl.icm.baselines import accuracy, many_shot, random_labels, zero_shot_log_probs
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.consistency import consistency_fix_maxprob
from icm_rl.icm.export import export, push
from icm_rl.icm.finetune import finetuned, trained_once
from icm_rl.icm.folds import FoldsSearch
from icm_rl.icm.objective import Scorer
from icm_rl.icm.pools import split_into_pools
from icm_rl.icm.search import SearchState, search, total_iterations
from icm_rl.progress import Progress
from icm_rl.tasks import Dataset, Example, Label, Task, group_members
from icm_rl.tasks.pairs import as_query

_SECONDS_BETWEEN_SAVES = 0.5
_COUNTED = ("prompt_tokens", "computed_tokens", "missing_labels")  # by the engine


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
    if config.method == "folds":
        folds = config.algorithm_3
        work = folder / "rounds"
        finished = [
            FoldsSearch(data.examples, task, engine, config.alpha, folds, config.seed, work).run()
        ]
    else:
        finished = _label_pools(pools, data.gold, task, engine, config, folder / "pools")
    if not PartialState().is_main_process:
        return None
    labels = {id: label for result in finished for id, label in result["labels"].items()}
    log_odds = {id: value for result in finished for id, value in result["log_odds"].items()}
    metrics = _search_metrics(finished, labels, data)
    if config.baselines:
        metrics |= _baseline_metrics(pools, labels, data, task, engine, config.seed)
    rows = _label_rows(data, labels, log_odds)
    write_jsonl(folder / "labels.jsonl", rows)
    write_jsonl(folder / "history.jsonl", _history(finished, data.gold))
    if data.pairs:
        preferences = preference_rows(data, labels, log_odds)
        metrics |= {"pairs": len(preferences), "pairs_dropped": len(data.pairs) - len(preferences)}
        write_jsonl(folder / "preferences.jsonl", preferences)
        rows = preferences or rows
    export(rows, config, metrics, folder / "dataset")
    if config.push_to_hub:
        print(push(folder / "dataset", config.push_to_hub))
    write_json(folder / "metrics.json", metrics)
    return metrics


def preference_rows(
    data: Dataset, labels: Mapping[str, Label], log_odds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Rows in TRL's conversational preference format for the pairs whose labels agree.

    A pair is left out where its examples are unlabeled or name neither or both responses better.

    Args:
        data: Pairs and their examples.
        labels: The label of each example.
        log_odds: The log-odds of each label, where known; a preference's are their mean.
    """
    members = group_members(data.examples)
    rows = []
    for group, pair in data.pairs.items():
        labeled = [e for e in members[group] if e.id in labels]
        votes = {labels[e.id] == (e.key == "A>B") for e in labeled}  # True: the first is better
        if len(votes) == 1:
            better = pair.responses if votes.pop() else pair.responses[::-1]
            row = {
                "prompt": pair.prompt,
                "chosen": [{"role": "assistant", "content": better[0]}],
                "rejected": [{"role": "assistant", "content": better[1]}],
            }
            sure = {"log_odds": mean(log_odds[e.id] for e in labeled)} if log_odds else {}
            rows.append(row | sure)
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
    base = engine
    iterations = {job: total_iterations(config.search, len(pools[job[0]])) for job in own}
    done = sum(iterations[job] for job in own if files[job].exists())
    progress = Progress("ICM", sum(iterations.values()), done, shown=processes.is_main_process)
    finished: list[dict[str, Any]] = []
    for pool, examples in enumerate(pools):
        if config.iterative and pool:
            processes.wait_for_everyone()
            finished.append(_best(pool - 1, files, config))
            engine = _trained_engine(base, finished, pools[:pool], task, config, work)
        for job in own:
            if job[0] == pool and not files[job].exists():
                scorer = Scorer(
                    examples,
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
    finished = [_best(pool, files, config) for pool in range(len(pools))]
    _warn(finished, config)
    return finished


def _best(pool: int, files: Mapping[tuple[int, int], Path], config: IcmConfig) -> dict[str, Any]:
    """The pool's search of highest U, with what all of its searches took."""
    results = [read_json(files[pool, restart]) for restart in range(config.restarts)]
    best = max(results, key=lambda result: result["utility"])
    spread = best["utility"] - min(result["utility"] for result in results)
    spent = {name: sum(result[name] for result in results) for name in ("seconds", *_COUNTED)}
    return best | spent | {"spread": spread}


def _trained_engine(
    base: LocalEngine,
    finished: Sequence[Mapping[str, Any]],
    pools: Sequence[Sequence[Example]],
    task: Task,
    config: IcmConfig,
    work: Path,
) -> LocalEngine:
    """An engine whose model learned the labels of the pools so far, as in the authors' code."""
    labels = {id: label for result in finished for id, label in result["labels"].items()}
    texts = [(e.text, task.labels[labels[e.id]]) for pool in pools for e in pool]
    name = f"theta-{len(pools)}"

    def train() -> PreTrainedModel:
        seed = f"{config.seed} {name}"
        return finetuned(base.model, base.tokenizer, texts, config.finetune, seed)

    return base.with_model(trained_once(work / name, train, base.model))


def _warn(finished: Sequence[Mapping[str, Any]], config: IcmConfig) -> None:
    """One line where the labels that were found, or how few were accepted, call for a look."""
    collapsed = sum(len(set(result["labels"].values())) == 1 for result in finished)
    refused = sum(
        max(record["labeled"] for record in result["history"]) < len(result["labels"]) / 2
        for result in finished
    )
    if collapsed:
        what = f"{collapsed} of {len(finished)} pools ended with one label for all examples"
        advice = "look at them, and at the relation; --restarts searches each pool more often"
    elif refused:
        what = f"in {refused} of {len(finished)} pools most new labels were refused"
        advice = f"lower --alpha (now {config.alpha:g}; the paper's remedy is 30 or 20)"
    else:
        return
    if PartialState().is_main_process:
        print(f"warning: {what}; {advice}", file=sys.stderr, flush=True)


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
    start, state, engine = time.monotonic(), None, scorer.engine
    spent = {"seconds": 0.0, **dict.fromkeys(_COUNTED, 0)}
    if saved.exists():
        values = read_json(saved)
        state, spent = SearchState.from_json(values["state"]), values["spent"]
        progress.advance(state.iteration)
    last_save = start
    before = {name: getattr(engine, name) for name in _COUNTED}

    def spent_by_now() -> dict[str, float]:
        counted = {n: spent[n] + getattr(engine, n) - before[n] for n in _COUNTED}
        return {"seconds": spent["seconds"] + time.monotonic() - start, **counted}

    def after_iteration(state: SearchState) -> None:
        nonlocal last_save
        now = spent_by_now()
        shown = {
            "U": state.score.utility,
            "labeled": len(state.labels),
            "accepted": state.accepted / state.iteration,
            "tokens/s": now["computed_tokens"] / now["seconds"],
            "pool": pool + 1,
        }
        right = accuracy(state.labels, gold)
        progress.advance(**shown, **({} if right is None else {"right": right}))
        if time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
            last_save = time.monotonic()
            write_json(saved, {"spent": now, "state": state.to_json()})

    rng = random.Random(f"search {config.seed} {pool} {restart}")
    state = search(scorer, config.search, rng, state, after_iteration, gold)
    return {
        "labels": state.labels,
        "log_odds": scorer.log_odds(state.labels, state.score),
        "utility": state.score.utility,
        "inconsistencies": state.score.inconsistencies,
        "history": state.history,
        **spent_by_now(),
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
            **_pair_columns(data, example),
        }
        for example in data.examples
    ]


def _pair_columns(data: Dataset, example: Example) -> dict[str, str]:
    """Of one order of a pair what its text was made of."""
    if example.group not in data.pairs:
        return {}
    pair = data.pairs[example.group]
    a, b = pair.responses if example.key == "A>B" else pair.responses[::-1]
    return {"query": as_query(pair.prompt), "a": a, "b": b}


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
    finished: Sequence[Mapping[str, Any]],
    labels: Mapping[str, Label],
    data: Dataset,
) -> dict[str, Any]:
    return {
        "examples": len(labels),
        "pools": len(finished),
        "utility": mean(result["utility"] for result in finished),
        "utility_spread": mean(result["spread"] for result in finished),
        "inconsistencies": sum(result["inconsistencies"] for result in finished),
        "search_seconds": round(sum(result["seconds"] for result in finished), 2),
        **_compute(finished),
        "label_shares": {
            str(label): count / len(labels) for label, count in Counter(labels.values()).items()
        },
        "label_accuracy": accuracy(labels, data.gold),
        "human_label_accuracy": accuracy(data.human, data.gold) if data.human else None,
    }


def _compute(finished: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of searches: iterations for each label (Table 5 of the paper), tokens, and bounds.

    A pool's iterations are counted up to the one that labeled the last example it labeled.
    """
    if "computed_tokens" not in finished[0]:
        return {}
    labeled = [[record["labeled"] for record in result["history"]] for result in finished]
    computed = sum(result["computed_tokens"] for result in finished)
    return {
        "iterations_per_label": sum(counts.index(max(counts)) for counts in labeled)
        / sum(map(max, labeled)),
        "computed_tokens": computed,
        "cached_tokens": sum(result["prompt_tokens"] for result in finished) - computed,
        "missing_labels": sum(result["missing_labels"] for result in finished),
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
        found = {
            name: many_shot(pool, shots, task, engine)
            for name, shots in known.items()
            if all(example.id in shots for example in pool)
        }
        alone = zero_shot_log_probs(pool, engine)
        found["zero_shot"] = {id: task.most_likely(answer) for id, answer in alone.items()}
        found["consistent_zero_shot"] = consistency_fix_maxprob(pool, task, alone)
        for name, of_pool in found.items():
            predictions.setdefault(name, {}).update(of_pool)
        progress.advance()
    progress.close()
    return {f"{name}_accuracy": accuracy(found, data.gold) for name, found in predictions.items()}
