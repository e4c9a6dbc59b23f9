"""The search of Algorithm 1, pool by pool: what is searched when, by which process and model."""

import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, ClassVar

from accelerate import PartialState
from annotated_types import Ge

from icm_rl.engines import Engine
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.hyperparameters import SearchConfig, total_iterations
from icm_rl.icm.methods.base import ByLogOdds, Cost, Job, Labeling, Method, Need
from icm_rl.icm.methods.beginning import BEGINNINGS, beginning
from icm_rl.icm.methods.learned import learned
from icm_rl.icm.objective import ContextOrder, Labels, Objective, Scorer
from icm_rl.icm.search import SearchState, search
from icm_rl.progress import Progress
from icm_rl.tasks import Example

_SECONDS_BETWEEN_SAVES = 0.5

_SearchJob = tuple[int, int]
"""A pool's number, and which of its searches it is."""


@dataclass
class Search(FinetuneConfig, SearchConfig, ByLogOdds):
    """Internal Coherence Maximization: Algorithms 1 and 2 of the paper."""

    name: ClassVar[str] = "search"
    summary: ClassVar[str] = "with the paper's Algorithm 1, examples in each other's context"
    shares_out: ClassVar[bool] = True

    pool_size: Annotated[int | None, Ge(1)] = field(
        default=None,
        metadata={"help": "Examples labeled together; by default as many as fit, at most 256."},
    )
    alpha: Annotated[float, Ge(0)] = field(
        default=50.0, metadata={"help": "Weight of mutual predictability in U (paper: 50, 30, 20)."}
    )
    objective: Objective = field(  # type: ignore[assignment]
        default="centered",
        metadata={
            "help": "P(D): 'centered', how far the labels part the log-odds, so that one label for "
            "all has none; 'mean_log_odds', of the authors' code; or 'sum_log_prob', of the paper."
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
    restarts: Annotated[int, Ge(1)] = field(
        default=1,
        metadata={"help": "Searches of each pool from other random labels; the highest U is kept."},
    )
    iterative: bool = field(
        default=False,
        metadata={"help": "Fine-tune the model on the pools so far before it labels the next."},
    )

    @property
    def needs(self) -> frozenset[Need]:
        needs = {Need.CONTEXTS}
        if self.iterative:
            needs.add(Need.TRAINING)
        if self.initial_labels in ("golden", "wrong"):
            needs.add(Need.GOLD)
        return frozenset(needs)

    def check(self, job: Job) -> None:
        labels = len(job.task.verbalizers)
        if self.try_reverse and labels != 2:
            raise InputError(
                f"--try_reverse is for two labels, which have an opposite, not {labels}"
            )
        job.pools(self.pool_size)
        if self._begins_by is not None:
            self._begins_by.check(job)

    @property
    def _begins_by(self) -> Method | None:
        """The method whose labels the search begins with, with this one's settings."""
        if self.initial_labels not in BEGINNINGS:
            return None
        return beginning(self.initial_labels, self.consistency, self.centered)

    def scorer(self, job: Job, pool: Sequence[Example], engine: Engine) -> Scorer:
        return Scorer(
            pool, job.task, engine, self.alpha, self.objective, self.consistency, self.order
        )

    def label(self, job: Job) -> Labeling:
        pools, first = job.pools(self.pool_size), None
        if self._begins_by is not None:
            first = self._begins_by.label(replace(job, folder=job.folder / "initial"))
        searches = _Searches(self, job, pools, first.labels if first else None)
        finished = searches.run()
        _warn(finished, self.alpha)
        labels = {id: label for result in finished for id, label in result["labels"].items()}
        log_odds = {id: value for result in finished for id, value in result["log_odds"].items()}
        history = [
            {"pool": number, **record}
            for number, result in enumerate(finished)
            for record in result["history"]
        ]
        cost = sum((Cost(**result["cost"]) for result in finished), searches.learned)
        if first is not None:
            cost += first.cost
        spread = mean(result["spread"] for result in finished)
        figures = {
            "pools": len(pools),
            "utility_spread": spread,
            "labeled_in_search": mean(map(_labeled_in_search, finished)),
            "iterations_per_label": _iterations_per_label(finished),
        }
        utility = mean(result["utility"] for result in finished)
        return Labeling(labels, log_odds, cost, history, utility, figures, pools)


class _Searches:
    """The searches of all pools.

    Shards and processes share them out; each search has its own random numbers, so the number of
    processes changes nothing. A search that was killed goes on where it was saved.
    """

    def __init__(
        self,
        method: Search,
        job: Job,
        pools: Sequence[Sequence[Example]],
        first: Labels | None,
    ):
        self.method, self.job, self.pools, self.first = method, job, pools, first
        self.folder, self.processes = job.folder / "pools", PartialState()
        self.all = list(product(range(len(pools)), range(method.restarts)))
        self.own = job.shard.own(self.all)
        iterations = {own: total_iterations(method, len(pools[own[0]])) for own in self.own}
        done = sum(iterations[own] for own in self.own if self._file(own).exists())
        self.learned = Cost()
        shown = self.processes.is_main_process
        self.progress = Progress("ICM", sum(iterations.values()), done, shown=shown)

    def run(self) -> list[dict[str, Any]]:
        """The result of each pool: labels, log-odds, history and cost, of its best search."""
        for number in range(len(self.pools)):
            engine = self.job.engine
            if self.method.iterative and number:
                self.processes.wait_for_everyone()
                engine = self._trained_engine(number)
            for own in self.own:
                if own[0] == number and not self._file(own).exists():
                    scorer = self.method.scorer(self.job, self.pools[number], engine)
                    saved = self._file(own).with_suffix(".unfinished.json")
                    write_json(self._file(own), self._search(scorer, own, saved))
                    saved.unlink(missing_ok=True)
        self.progress.close()
        self.job.shard.wait(map(self._file, self.all))
        return [self._best(number) for number in range(len(self.pools))]

    def _file(self, search_job: _SearchJob) -> Path:
        pool, restart = search_job
        return self.folder / f"{pool:05}-{restart}.json"

    def _best(self, pool: int) -> dict[str, Any]:
        """The pool's search of highest U, with what all of its searches took."""
        results = [read_json(self._file((pool, k))) for k in range(self.method.restarts)]
        best = max(results, key=lambda result: result["utility"])
        spread = best["utility"] - min(result["utility"] for result in results)
        cost = sum((Cost(**result["cost"]) for result in results), Cost())
        return best | {"cost": cost.to_json(), "spread": spread}

    def _trained_engine(self, pool: int) -> Engine:
        """An engine whose model learned the labels of the pools so far (the authors' code)."""
        shots = []
        for before in range(pool):
            labels = self._best(before)["labels"]
            shots += [(example, labels[example.id]) for example in self.pools[before]]
        own = replace(self.job, folder=self.folder)
        engine, cost = learned(own, shots, self.method, f"theta-{pool}")
        self.learned += cost
        return engine

    def _search(self, scorer: Scorer, search_job: _SearchJob, saved: Path) -> dict[str, Any]:
        """One search of one pool, from the beginning or from where a killed run saved it."""
        pool, restart = search_job
        state, earlier = None, Cost()
        if saved.exists():
            values = read_json(saved)
            state, earlier = SearchState.from_json(values["state"]), Cost(**values["cost"])
            self.progress.advance(state.iteration)
        last_save, before = time.monotonic(), Cost.so_far(scorer.engine)

        def spent() -> Cost:
            return earlier + (Cost.so_far(scorer.engine) - before)

        def after_iteration(state: SearchState) -> None:
            nonlocal last_save
            now = spent()
            shown: dict[str, float] = {
                "U": state.score.utility,
                "labeled": len(state.labels),
                "accepted": state.accepted / state.iteration,
                "tokens/s": now.computed_tokens / now.seconds,
                "pool": pool + 1,
            }
            right = self.job.accuracy(state.labels)
            self.progress.advance(1, **shown, **({} if right is None else {"right": right}))
            if time.monotonic() - last_save > _SECONDS_BETWEEN_SAVES:
                last_save = time.monotonic()
                write_json(saved, {"cost": now.to_json(), "state": state.to_json()})

        rng = random.Random(f"search {self.job.seed} {pool} {restart}")
        first = None if self.first is None else {id: self.first[id] for id in scorer.examples}
        gold = self.job.gold
        state = search(scorer, self.method, rng, state, after_iteration, gold, first)
        return {
            "labels": state.labels,
            "log_odds": scorer.log_odds(state.labels, state.score),
            "utility": state.score.utility,
            "history": state.history,
            "cost": spent().to_json(),
        }


def _labeled_in_search(result: Mapping[str, Any]) -> float:
    """The share of a pool's examples that the search labeled; the others got theirs at its end."""
    most: int = max(record["labeled"] for record in result["history"])
    return most / len(result["labels"])


def _iterations_per_label(finished: Sequence[Mapping[str, Any]]) -> float:
    """Iterations for each label (Table 5 of the paper).

    A pool's are counted up to the one that labeled the last example that a search labeled.
    """
    labeled = [[record["labeled"] for record in result["history"]] for result in finished]
    return sum(counts.index(max(counts)) for counts in labeled) / sum(map(max, labeled))


def _warn(finished: Sequence[Mapping[str, Any]], alpha: float) -> None:
    """One line where the labels that were found, or how few were accepted, call for a look."""
    collapsed = sum(len(set(result["labels"].values())) == 1 for result in finished)
    refused = sum(_labeled_in_search(result) < 0.5 for result in finished)
    if collapsed:
        what = f"{collapsed} of {len(finished)} pools ended with one label for all examples"
        advice = (
            "look at them, and at the relation; --objective centered gives one label no utility"
        )
    elif refused:
        what = (
            f"in {refused} of {len(finished)} pools most examples were labeled only after the "
            "search, which refused their labels"
        )
        advice = (
            f"lower --alpha (now {alpha:g}; the paper's remedy is 30 or 20), raise "
            "--initial_temperature, or label all examples first by --sweeps"
        )
    else:
        return
    if PartialState().is_main_process:
        print(f"warning: {what}; {advice}", file=sys.stderr, flush=True)
