"""A base model that has learned some examples' labels, kept for a run that was killed."""

from transformers import PreTrainedModel

from icm_rl.engines import LocalEngine
from icm_rl.files import read_json, write_json
from icm_rl.icm.finetune import FinetuneConfig, finetuned, trained_once
from icm_rl.icm.methods.base import Cost, Job
from icm_rl.icm.prompting import Shots
from icm_rl.progress import Progress


def learned(job: Job, shots: Shots, config: FinetuneConfig, name: str) -> tuple[LocalEngine, Cost]:
    """The job's engine with its model after it learned the shots, and what that took.

    Args:
        job: The data set, whose folder keeps the model.
        shots: Examples with the labels that are learned.
        config: How they are learned.
        name: The model's folder in the job's; with the seed it decides all chance.
    """
    engine = job.engine
    assert isinstance(engine, LocalEngine)
    folder = job.folder / name
    spent = folder.with_suffix(".json")

    def train() -> PreTrainedModel:
        texts = [(e.text, job.task.verbalizers[label]) for e, label in shots]
        progress = Progress("learn", config.num_train_epochs * len(texts), unit="example")
        seed = f"{name} {job.seed}"
        with job.metered() as cost:
            model = finetuned(engine.model, engine.tokenizer, texts, config, seed, progress)
        progress.close()
        read = job.trained([e for e, _ in shots], config.num_train_epochs)
        write_json(spent, (cost[0] + read).to_json())
        return model

    model = trained_once(folder, train, engine.model)
    return engine.with_model(model), Cost(**read_json(spent))
