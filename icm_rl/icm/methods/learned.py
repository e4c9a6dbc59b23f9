"""A base model that has learned some examples' labels."""

from pathlib import Path

from accelerate import PartialState

from icm_rl.engines import Engine
from icm_rl.icm.finetune import FinetuneConfig, fine_tune
from icm_rl.icm.methods.base import Cost, Job
from icm_rl.icm.prompting import Shots
from icm_rl.progress import Progress


def learned(
    job: Job,
    shots: Shots,
    config: FinetuneConfig,
    name: str,
    title: str = "learn",
    begun: Path | None = None,
) -> tuple[Engine, Cost]:
    """The job's engine with its model after it learned the shots, and what that took.

    Args:
        job: The data set, whose folder keeps the model.
        shots: Examples with the labels that are learned.
        config: How they are learned.
        name: The model's folder in the job's; with the seed it decides all chance.
        title: What is shown while one waits.
        begun: The folder of a model that has learned already, to begin with.
    """
    folder = job.folder / name
    assert job.base is not None
    texts = [(e.text, job.task.verbalizers[label]) for e, label in shots]
    count = config.num_train_epochs * len(texts)
    done, shown = (count if folder.exists() else 0), PartialState().is_main_process
    progress = Progress(title, count, done, "example", shown)
    seed = f"{name} {job.seed}"
    seconds = fine_tune(job.base, texts, config, seed, folder, begun, progress)
    progress.close()
    spent = job.trained([e for e, _ in shots], config.num_train_epochs) + Cost(seconds)
    return job.engine.with_weights(folder), spent
