"""Labels a data set by a method and writes what the next stage reads."""

import functools
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState

from icm_rl.engines import Engine
from icm_rl.errors import InputError
from icm_rl.files import write_json
from icm_rl.icm.config import IcmConfig
from icm_rl.icm.export import push
from icm_rl.icm.finetune import BaseModel, FinetuneConfig
from icm_rl.icm.forecast import Fit
from icm_rl.icm.measuring import baseline_metrics, labeling_metrics
from icm_rl.icm.methods import Job, Method, Need
from icm_rl.icm.objective import Labels
from icm_rl.icm.prompting import accuracy
from icm_rl.icm.signals import sampled_signals
from icm_rl.icm.writing import write_labels
from icm_rl.shards import Shard
from icm_rl.tasks import Dataset


def prepared(data: Dataset, engine: Engine, config: IcmConfig, method: Method) -> Job:
    """The data set as the method sees it, looked over before anything is written.

    Raises:
        InputError: The method cannot label it, or gold labels are missing that the method needs.
    """
    job = Job(
        data.examples,
        config.configured_task,
        engine,
        config.seed,
        Path(config.output_dir),
        BaseModel(config.model, config.dtype, config.trust_remote_code),
        shard=Shard.parse(config.shard),
        accuracy=functools.partial(accuracy, gold=data.gold),
    )
    if Need.GOLD in method.needs:
        job.gold = _complete(data.gold, data, method, "gold")
    if Need.HUMAN in method.needs:
        job.human = _complete(data.human, data, method, "human")
    if Need.TRAINING in method.needs and isinstance(method, FinetuneConfig):
        method.examples_in_a_pass(PartialState().num_processes)
    method.check(job)
    return job


def label_dataset(
    data: Dataset, job: Job, config: IcmConfig, method: Method
) -> dict[str, Any] | None:
    """Labels all examples and writes the stage's files into ``config.output_dir``.

    Gold and human labels enter only after the search, to be compared with, unless the method says
    that it needs them. A run that was killed is continued. Of several processes the main one
    writes.

    Returns:
        The metrics, which are the last file to be written; None in other processes.

    Raises:
        ShareDone: This is a shard, whose share is done.
    """
    before = _served_tokens(config)
    labeling = method.label(job)
    job.shard.end()
    served = _served_tokens(config)
    compared = config.baselines and bool(data.gold)
    baselines = baseline_metrics(labeling, method, data, job) if compared else {}
    if not PartialState().is_main_process:
        return None
    metrics = labeling_metrics(labeling, method, data, job.task) | baselines
    if before is not None and served is not None:
        metrics["server_computed_tokens"] = served - before
    if config.signals:
        found = sampled_signals(job.examples, labeling.labels, job.task, job.engine, job.seed)
        if found:
            forecast = Fit.shipped().forecast(found).to_json(len(labeling.labels))
            metrics |= {"signals": asdict(found), "forecast": forecast}
    folder = Path(config.output_dir)
    metrics |= write_labels(folder, data, labeling, config, method, metrics)
    if config.push_to_hub:
        print(push(folder / "dataset", config.push_to_hub))
    write_json(folder / "metrics.json", metrics)
    return metrics


def _served_tokens(config: IcmConfig) -> int | None:
    """The tokens that all servers have computed so far, by their own count, where they count."""
    if not config.server:
        return None
    from icm_rl.engines.server import served_cache

    caches = [served_cache(url) for url in set(config.server)]
    return sum(cache.computed for cache in caches if cache) if all(caches) else None


def _complete(labels: Labels, data: Dataset, method: Method, kind: str) -> Labels:
    """The labels, if every example has one.

    Raises:
        InputError: One has none.
    """
    if len(labels) < len(data.examples):
        raise InputError(
            f"--method {method.name}, with these settings, needs a {kind} label for every "
            f"example; {len(data.examples) - len(labels)} of {len(data.examples)} have none"
        )
    return labels
