"""Labeling by folds with a large model on GPUs, its training sharded by ZeRO-3, as a table.

    python benchmarks/sharded.py --data data/alpaca.json --layers 16 --hidden_size 2048

The model is Llama-shaped with random weights, so only speed and memory mean anything: 16 layers of
2,048 are Llama 3.2 1B. One epoch of one round of ``configs/llama-3.1/8b-folds.yaml``, with all in
the GPUs' memory and with weights and optimizer states in the machine's.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Annotated

import torch
from annotated_types import Ge
from stages import configured, run_recipe
from transformers import AutoModelForCausalLM, LlamaConfig

from icm_rl.errors import InputError
from icm_rl.files import read_json, write_text
from icm_rl.models import default_device, load_tokenizer
from icm_rl.runner import run
from icm_rl.settings import parse, require_given
from icm_rl.shipped import shipped

_HEAD = 64
_VOCABULARY = 128_256
_MIB_IN_GIB = 1 << 10


@dataclass
class ShardedConfig:
    """Folds, sharded."""

    data: str = field(default="", metadata={"help": "Pairs, as stage 1 reads them."})
    task: str = field(default="alpaca", metadata={"help": "Their task."})
    limit: Annotated[int, Ge(2)] = field(default=64, metadata={"help": "How many of them."})
    tokenizer: str = field(default="smollm2", metadata={"help": "Whose tokens they are read as."})
    layers: Annotated[int, Ge(1)] = field(default=16, metadata={"help": "The model's layers."})
    hidden_size: Annotated[int, Ge(512)] = field(
        default=2048, metadata={"help": "Their width, a multiple of 512: eight groups of heads."}
    )
    offload: list[str] = field(
        default_factory=lambda: ["none", "cpu"],
        metadata={"help": "Where weights and optimizer states are, none: on the GPUs."},
    )
    processes: Annotated[int, Ge(1)] = field(default=1, metadata={"help": "GPUs."})
    output_dir: str = field(default="runs/sharded", metadata={"help": "Folder of model and runs."})

    def __post_init__(self) -> None:
        require_given(self, "data")
        if self.hidden_size % (8 * _HEAD):
            raise InputError(f"--hidden_size {self.hidden_size} is not a multiple of {8 * _HEAD}")


def main() -> None:
    (config,) = parse([ShardedConfig])
    if not which("nvidia-smi"):
        raise InputError("nvidia-smi is not there; this benchmark needs an NVIDIA GPU")
    folder = Path(config.output_dir)
    if folder.exists():
        raise InputError(f"--output_dir {folder} is there; a run that goes on cannot be measured")
    weights = _make(config, folder / "model")
    lines = [
        "| weights, billions | offloaded to | tokens learned | seconds | tokens/s "
        "| most in a GPU, GiB | in the machine's memory, GiB |",
        "|---" * 7 + "|",
    ]
    print("\n".join(lines), flush=True)
    for device in config.offload:
        with _gpu_memory(folder / "memory.txt") as memory:
            own, held = _labeled(config, device, folder)
        done = [read_json(file)["cost"] for file in sorted((own / "rounds").glob("*.json"))]
        tokens = sum(cost["trained_tokens"] for cost in done)
        seconds = sum(cost["seconds"] for cost in done)
        most = max(int(line) for line in memory.read_text().split()) / _MIB_IN_GIB
        lines.append(
            f"| {weights / 1e9:.2f} | {device} | {tokens:,} | {seconds:.0f} "
            f"| {tokens / seconds:,.0f} | {most:.1f} | {held:.1f} |"
        )
        print(lines[-1], flush=True)
        write_text(folder / "sharded.md", "\n".join(lines) + "\n")


def _make(config: ShardedConfig, folder: Path) -> int:
    """Writes the model; the number of its weights."""
    shape = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=config.hidden_size,
        intermediate_size=4 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.hidden_size // _HEAD,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    with torch.device(default_device()):
        model = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    load_tokenizer(config.tokenizer).save_pretrained(folder)
    return model.num_parameters()


def _labeled(config: ShardedConfig, device: str, folder: Path) -> tuple[Path, float]:
    """Labels by two folds, in a folder of its own; the memory of the largest process, in GiB."""
    own = folder / f"offload-{device}"
    launcher = [
        *("-m", "accelerate.commands.launch"),
        *("--config_file", shipped("recipes/configs/accelerate/zero3.yaml")),
        *("--num_processes", str(config.processes)),
        *("--offload_optimizer_device", device, "--offload_param_device", device),
    ]
    flags = [
        *configured("llama-3.1/8b-folds"),
        *("--model", folder / "model", "--task", config.task, "--data", config.data),
        *("--limit", config.limit, "--output_dir", own, "--baselines", "false"),
        *("--folds", 2, "--rounds", 1, "--num_train_epochs", 1),
    ]
    return own, run_recipe("recipes/icm.py", *flags, launcher=launcher).peak_memory


@contextmanager
def _gpu_memory(file: Path) -> Iterator[Path]:
    """Writes what the fullest GPU holds, in MiB, five times a second."""
    asked = ("--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop-ms=200")
    with file.open("wb") as written:
        watching = subprocess.Popen(["nvidia-smi", *asked], stdout=written)
    try:
        yield file
    finally:
        watching.terminate()
        watching.wait()


if __name__ == "__main__":
    run(main)
