"""One side of benchmark_rewardbench.py: the rewardbench package, in an environment of its own.

    PYTHON benchmarks/rewardbench_package.py MODEL FILE.json OUTPUT.json

Runs the package's own command on a file of RewardBench's rows and writes its results, the rows'
scores, and the seconds that its pipeline spent on tokenizing and scoring. The package finds the
rows where its name for them, allenai/reward-bench, is a folder; and since it sends its inputs to a
GPU by name, on a machine without one they are kept where they are.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers import BatchEncoding

os.environ["WANDB_MODE"] = "disabled"
sys.path.pop(0)  # this folder, whose rewardbench.py would stand for the package


def main(model: str, rows: str, output: str) -> None:
    from rewardbench import rewardbench as package
    from rewardbench.constants import EXAMPLE_COUNTS, SUBSET_MAPPING
    from rewardbench.models import pipeline
    from rewardbench.utils import calculate_scores_per_section

    if not torch.cuda.is_available():
        BatchEncoding.to = lambda self, device: self
    seconds, call = 0.0, pipeline.RewardBenchPipeline.__call__

    def timed(*args, **kwargs):
        nonlocal seconds
        start = time.monotonic()
        found = call(*args, **kwargs)
        seconds += time.monotonic() - start
        return found

    pipeline.RewardBenchPipeline.__call__ = timed
    model, rows, output = (str(Path(path).resolve()) for path in (model, rows, output))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        data = Path("allenai/reward-bench/data")
        data.mkdir(parents=True)
        _place(Path(model), Path("model"))  # the package makes file names of the model's
        table = [json.loads(line) for line in Path(rows).read_text().split("\n") if line]
        Dataset.from_list(table).to_parquet(data / "filtered-00000-of-00001.parquet")
        package.rewardbench(
            package.Args(
                model="model", not_quantized=True, torch_dtype="float32", output_dir="out/"
            )
        )
        lines = Path("out/model_outputs.jsonl").read_text().splitlines()
        scored = [json.loads(line) for line in lines]
        subsets = _read(Path("out/model.json"))["extra_results"]
        found = {
            "seconds": seconds,
            "subsets": subsets,
            "sections": calculate_scores_per_section(EXAMPLE_COUNTS, SUBSET_MAPPING, subsets),
            "rows": [
                {name: row[name] for name in ("id", "results", "scores_chosen", "scores_rejected")}
                for row in scored
            ],
        }
    Path(output).write_text(json.dumps(found))


def _place(model: Path, folder: Path) -> None:
    """A model's folder in the words of the package's transformers, an older release."""
    folder.mkdir()
    for file in filter(Path.is_file, model.iterdir()):
        (folder / file.name).symlink_to(file)
    tokenizer = _read(folder / "tokenizer_config.json")
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["model_input_names"] = ["input_ids", "attention_mask"]
    tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens", [])
    config = _read(folder / "config.json")
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    for name, settings in (("tokenizer_config", tokenizer), ("config", config)):
        (folder / f"{name}.json").unlink()
        (folder / f"{name}.json").write_text(json.dumps(settings))


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
