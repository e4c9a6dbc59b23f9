r"""What a labeling will take, before it runs: tokens, operations, memory, time and price.

    python recipes/plan.py --config recipes/configs/llama-3.1/8b-icm.yaml \
        --data pairs.jsonl --gpus 8 --gpu_teraflops 989 --price 2.5

Takes the settings of recipes/icm.py. Reads the data, the tokenizer and the model's configuration;
its weights only where ``--calibrate`` measures their speed on this machine.
"""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from transformers import PretrainedConfig

from icm_rl.engines.loading import load_engine
from icm_rl.icm.config import IcmConfig, parse_icm
from icm_rl.icm.finetune import FinetuneConfig
from icm_rl.icm.methods import Method, Need
from icm_rl.icm.planning import CountingEngine, Size, planned, tokens_a_second
from icm_rl.models import load_config, load_tokenizer
from icm_rl.runner import run
from icm_rl.terminal import say


@dataclass
class PlanConfig:
    """The machine for which it is planned."""

    gpus: Annotated[int, Ge(1)] = field(default=1, metadata={"help": "GPUs that share the work."})
    gpu_teraflops: Annotated[float | None, Gt(0)] = field(
        default=None,
        metadata={"help": "What a GPU can do, in 10^12 operations a second: of an H100 989."},
    )
    efficiency: Annotated[float, Gt(0), Le(1)] = field(
        default=0.4, metadata={"help": "The share of it that is reached."}
    )
    price: Annotated[float | None, Gt(0)] = field(
        default=None, metadata={"help": "What a GPU costs an hour, in any currency."}
    )
    calibrate: Annotated[float | None, Gt(0)] = field(
        default=None,
        metadata={"help": "Measure the model's speed on this machine for so many seconds."},
    )


def main() -> None:
    config, method, machine = parse_icm(None, PlanConfig)
    task = config.configured_task
    data = task.load(config.source, config.limit)
    words = list(task.verbalizers.values())
    own = load_config(config.model, config.trust_remote_code)
    tokenizer = load_tokenizer(config.model, config.trust_remote_code)
    engine = CountingEngine(own, tokenizer, words, config.cache_tokens)
    plan = planned(data.examples, task, method, engine, config.seed)
    size = Size.of(own, config.trust_remote_code)
    operations = size.operations(plan.cost, plan.mean_prompt)
    learned, about = plan.cost.trained_tokens, "" if plan.exact else "about "
    rows = {
        "examples": f"{len(data.examples):,}, {plan.tokens / len(data.examples):.0f} tokens each",
        "parameters": f"{size.parameters:,}",
        "tokens of all prompts": f"{about}{plan.cost.prompt_tokens:,}",
        "of these computed": f"{about}{plan.cost.computed_tokens:,}",
        **({"tokens learned": f"{about}{learned:,}"} if learned else {}),
        "operations": f"{operations:.2e}",
        **_memory(size, config, own, method),
    }
    seconds = None
    if machine.calibrate:
        real = load_engine(config.model, words, config)
        rate = tokens_a_second(real, plan, machine.calibrate)
        rows["computed a second, measured"] = f"{rate:,.0f} tokens"
        # what is learned takes three times the operations of what is read
        seconds = (plan.cost.computed_tokens + 3 * plan.cost.trained_tokens) / rate
    elif machine.gpu_teraflops:
        seconds = operations / (machine.gpu_teraflops * 1e12 * machine.efficiency)
    if seconds is not None:
        hours = seconds / 3600
        rows["GPU hours" if machine.gpu_teraflops else "hours of one process"] = f"{hours:,.3g}"
        rows["time"] = _time(seconds / machine.gpus)
        if machine.price:
            rows["price"] = f"{hours * machine.price:,.2f}"
    say("| | |\n|---|---|")
    for name, value in rows.items():
        say(f"| {name} | {value} |")


def _memory(size: Size, config: IcmConfig, own: PretrainedConfig, method: Method) -> dict[str, str]:
    """What a process holds beside what a batch takes, in GiB."""
    name = config.dtype if config.dtype != "auto" else own.dtype or "float32"
    dtype = name if isinstance(name, torch.dtype) else getattr(torch, name)
    weights = size.parameters * dtype.itemsize
    rows = {
        "weights": _gib(weights),
        "keys and values": f"{_gib(size.kept * dtype.itemsize * config.cache_tokens)} at most",
    }
    if Need.TRAINING in method.needs and isinstance(method, FinetuneConfig):
        # a copy; where all of it learns, in float32 with its gradients and two states of AdamW
        all_of_it = 4 * torch.float32.itemsize * size.parameters
        rows["training, beside them"] = _gib(weights if method.lora_r else all_of_it)
    return rows


def _gib(count: float) -> str:
    return f"{count / 2**30:,.2f} GiB"


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes / 60:,.1f} hours" if minutes > 90 else f"{minutes:,.1f} minutes"


if __name__ == "__main__":
    run(main)
