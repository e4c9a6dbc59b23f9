"""The local engine's tokens a second over searches, contexts' shared stretches copied or not.

    python benchmarks/engine.py --models miniature --repeats 3
    python benchmarks/engine.py --models smollm2 --repeats 1 --searches 4

The same searches by joining each row's keys and values (``joined``) and by attending to shared
stretches once (``branches``), in turn. Beside the tokens a second stands the share of the matrix
rate that the model's weights alone take (two floating-point operations a weight and token), by a
matrix product that was timed in the same run. Last, what a sweep's time goes into, by torch's
profiler: what is neither a matrix product nor attention is all that the engine could still save.
"""

import random
import time
from dataclasses import dataclass, field
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
from annotated_types import Ge
from torch.profiler import profile

from icm_rl.engines import LocalEngine
from icm_rl.errors import InputError
from icm_rl.icm.hyperparameters import SearchConfig
from icm_rl.icm.objective import Scorer
from icm_rl.icm.search import search
from icm_rl.miniature.data import write_data
from icm_rl.models import default_device, load_causal_lm, load_tokenizer
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS

MODELS = {"miniature": "float32", "smollm2": "bfloat16"}
SIDES = {"joined": False, "branches": True}


@dataclass
class EngineBenchmarkConfig:
    """The engine's speed."""

    models: list[str] = field(
        default_factory=lambda: list(MODELS), metadata={"help": f"Of {', '.join(MODELS)}."}
    )
    repeats: Annotated[int, Ge(1)] = field(default=3, metadata={"help": "Turns of each side."})
    searches: Annotated[int, Ge(1)] = field(default=8, metadata={"help": "Searches of a turn."})
    examples: Annotated[int, Ge(8)] = field(default=16, metadata={"help": "Examples of a pool."})

    def __post_init__(self) -> None:
        for name in self.models:
            if name not in MODELS:
                raise InputError(f"--models '{name}' is not one of {', '.join(MODELS)}")


def main() -> None:
    (config,) = parse([EngineBenchmarkConfig])
    with TemporaryDirectory() as folder:
        write_data(folder, 0)
        task = TASKS["truthfulqa"]
        groups = config.searches * config.examples // 4
        examples = task.load(f"{folder}/facts_train.jsonl", groups).examples
    starts = range(0, len(examples), config.examples)
    pools = [examples[start : start + config.examples] for start in starts]
    print("| model | side | tokens/s | of the matrix rate | ratio |\n|---|---|---|---|---|")
    for name in config.models:
        dtype = MODELS[name]
        try:
            model = load_causal_lm(name, dtype).to(default_device())
        except InputError as error:
            print(f"{name} is left out: {error}")
            continue
        engine = LocalEngine(model, load_tokenizer(name), list(task.verbalizers.values()))
        sides = [side for side, branches in SIDES.items() if engine._branches or not branches]
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(config.repeats):
            for side in sorted(sides, reverse=bool(turn % 2)):
                engine._branches = SIDES[side]
                rates[side].append(_tokens_per_second(engine, task, pools))
        weights = sum(p.numel() for p in model.parameters()) - _embedded(model)
        matrix = _matrix_rate(getattr(torch, dtype), model.device)
        for side, found in rates.items():
            rate = median(found)
            share = 2 * weights * rate / matrix
            ratio = rate / median(rates["joined"])
            print(f"| {name}, {dtype} | {side} | {rate:,.0f} | {share:.0%} | {ratio:.2f} |")
        print(f"{name}: {matrix / 1e9:,.0f} GFLOP/s in a matrix product of {dtype}")
        products, attention = _shares(engine, task, pools[:1])
        print(f"{name}: {products:.0%} of the time is matrix products, {attention:.0%} attention")


def _tokens_per_second(
    engine: LocalEngine, task, pools, sweeps: int = 2, iterations: float = 0.5
) -> float:
    """Of a search of each pool: sweeps, then so many iterations an example."""
    settings = SearchConfig(sweeps=sweeps, iterations_per_example=iterations)
    before, start = engine.computed_tokens, time.perf_counter()
    for pool in pools:
        engine.forget()
        search(Scorer(pool, task, engine, objective="centered"), settings, random.Random(0))
    return (engine.computed_tokens - before) / (time.perf_counter() - start)


def _shares(engine: LocalEngine, task, pools) -> tuple[float, float]:
    """The shares of a sweep's time that matrix products and attention take."""
    with profile() as profiler:
        _tokens_per_second(engine, task, pools, sweeps=1, iterations=0.01)
    kind = "cpu" if engine.model.device.type == "cpu" else "device"
    seconds = {
        event.key: getattr(event, f"self_{kind}_time_total")
        for event in profiler.key_averages()
        if event.key.startswith("aten::")
    }
    products = sum(seconds.get(f"aten::{name}", 0) for name in ("mm", "addmm", "bmm"))
    attention = sum(of for name, of in seconds.items() if "attention" in name)
    return products / sum(seconds.values()), attention / sum(seconds.values())


def _embedded(model) -> int:
    """The weights that are looked up, not multiplied with."""
    return model.get_input_embeddings().weight.numel()


def _matrix_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of a square matrix product, the best of ten."""
    size = 2048
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(10):
        start = time.perf_counter()
        product = one @ other
        product[0, 0].item()  # waits for a GPU
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


if __name__ == "__main__":
    run(main)
