"""Our PPO against TRL 1.12.0's, the last with a PPO, and our GRPO against a bare GRPOTrainer.

    make .venv-trl/ready
    python benchmarks/benchmark_rl.py --output_dir runs/benchmark_rl

Every side trains the miniature on the same prompts by the same reward model (of the gold labels of
5,000 pairs, in the policy's own chat format, which TRL's PPO needs), with the same batch, length of
responses, epochs and seeds, in float32, each run a process of its own; the sides take turns.
Seconds are those of the training, without loading; memory is the most that the whole process held.
"""

import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import yaml
from annotated_types import Ge

from icm_rl.data import read_rows
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_json, write_text
from icm_rl.miniature.data import write_data
from icm_rl.models import resolve
from icm_rl.pipeline import write_preferences
from icm_rl.progress import Progress
from icm_rl.report.plots import curves
from icm_rl.report.table import mean_and_deviation
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS

CONFIGS = Path("recipes/configs/miniature")
ANSWERS = 128
"""Answers an update, on every side."""

PPO_SIDES = ("TRL 1.12.0", "icm_rl, a copy as value model", "icm_rl, a head as value model")
GRPO_SIDES = ("GRPOTrainer", "icm_rl")


@dataclass
class BenchmarkConfig:
    """The size of the benchmark."""

    seeds: Annotated[int, Ge(1)] = field(
        default=3, metadata={"help": "How many seeds, counted from 0."}
    )
    updates: Annotated[int, Ge(1)] = field(
        default=12, metadata={"help": "Updates of a run, each of 128 answers seen twice."}
    )
    last_updates: Annotated[int, Ge(1)] = field(
        default=4, metadata={"help": "Updates at the end whose mean score is the final one."}
    )
    trl_python: str = field(
        default=".venv-trl/bin/python",
        metadata={"help": "The interpreter of an environment with TRL 1.12.0."},
    )
    output_dir: str = field(
        default="runs/benchmark_rl", metadata={"help": "Folder for the tables and the picture."}
    )

    def __post_init__(self) -> None:
        if not Path(self.trl_python).is_file():
            raise InputError(
                f"{self.trl_python}: no such interpreter; run make .venv-trl/ready, or give "
                "--trl_python"
            )


@dataclass(frozen=True)
class Result:
    """One run: its seconds, the process's peak memory, the mean score of each update's answers."""

    seconds: float
    peak_mib: float
    scores: list[float]


def main() -> None:
    (config,) = parse([BenchmarkConfig])
    with TemporaryDirectory() as folder:
        bench = Bench(config, Path(folder))
        results = bench.run()
    ppo, grpo = ({side: results[side] for side in sides} for sides in (PPO_SIDES, GRPO_SIDES))
    size = f"{config.seeds} seeds, {config.updates} updates of {ANSWERS} answers"
    text = f"PPO, {size}:\n\n{table(config, ppo)}\n\nGRPO, {size}:\n\n{table(config, grpo)}"
    panels = {
        "PPO: score by seconds": {side: list(map(by_seconds, ppo[side])) for side in ppo},
        "PPO: score by episodes": {side: list(map(by_episodes, ppo[side])) for side in ppo},
        "GRPO: score by episodes": {side: list(map(by_episodes, grpo[side])) for side in grpo},
    }
    output = Path(config.output_dir)
    write_text(output / "table.md", text + "\n")
    write_text(output / "curves.svg", curves(panels, ("seconds", "episodes", "episodes")))
    print(text)


def by_episodes(found: Result) -> tuple[list[float], list[float]]:
    return [ANSWERS * (k + 1) for k in range(len(found.scores))], found.scores


def by_seconds(found: Result) -> tuple[list[float], list[float]]:
    step = found.seconds / len(found.scores)
    return [step * (k + 1) for k in range(len(found.scores))], found.scores


def table(config: BenchmarkConfig, results: Mapping[str, Sequence[Result]]) -> str:
    """Means over the seeds, with the ratios to the first side."""
    lines = ["| | samples/s | ratio | peak MiB | ratio | final score |", "|---|" + "---|" * 5]
    base: tuple[float, float] | None = None
    for side, found in results.items():
        rates = [ANSWERS * config.updates / one.seconds for one in found]
        peaks = [one.peak_mib for one in found]
        finals = [mean(one.scores[-config.last_updates :]) for one in found]
        base = base or (mean(rates), mean(peaks))
        lines.append(
            f"| {side} | {mean(rates):.1f} | {mean(rates) / base[0]:.2f} | {mean(peaks):,.0f} "
            f"| {mean(peaks) / base[1]:.2f} | {mean_and_deviation(finals, 3)} |"
        )
    return "\n".join(lines)


class Bench:
    """The runs of all sides, by turns."""

    def __init__(self, config: BenchmarkConfig, folder: Path):
        self.config, self.folder, self.data = config, folder, folder / "data"
        self.progress = Progress("runs", 1 + config.seeds * len(PPO_SIDES + GRPO_SIDES), unit="run")

    def run(self) -> dict[str, list[Result]]:
        write_data(self.data)
        self._train_reward_model()
        results: dict[str, list[Result]] = {side: [] for side in PPO_SIDES + GRPO_SIDES}
        for seed in range(self.config.seeds):
            for side in PPO_SIDES if seed % 2 == 0 else reversed(PPO_SIDES):
                results[side].append(self._ppo(side, seed))
            for side in GRPO_SIDES if seed % 2 == 0 else reversed(GRPO_SIDES):
                results[side].append(self._grpo(side, seed))
        self.progress.close()
        return results

    def _train_reward_model(self) -> None:
        settings = yaml.safe_load((CONFIGS / "reward.yaml").read_text(encoding="utf-8"))
        del settings["chat_template_path"]
        settings["num_train_epochs"] = 1
        pairs = TASKS["preferences"].load(self.data / "preferences_5000.jsonl")
        write_preferences(pairs, self.data)
        settings["preferences"] = str(self.data / "preferences_gold.jsonl")
        settings["output_dir"] = str(self.folder / "reward")
        config = self.folder / "reward.yaml"
        write_text(config, yaml.safe_dump(settings))
        self._process(sys.executable, "recipes/reward.py", "--config", config)

    def _ppo(self, side: str, seed: int) -> Result:
        updates = self.config.updates
        if side == PPO_SIDES[0]:
            settings = yaml.safe_load((CONFIGS / "ppo.yaml").read_text(encoding="utf-8"))
            same = ("num_mini_batches", "num_ppo_epochs", "response_length", "temperature")
            same += ("learning_rate", "lr_scheduler_type", "max_grad_norm", "kl_coef", "cliprange")
            same += ("kl_estimator", "vf_coef", "cliprange_value", "gamma", "lam")
            same += ("whiten_rewards", "missing_eos_penalty")
            arguments = {name: settings[name] for name in same} | {
                "total_episodes": ANSWERS * updates,
                "per_device_train_batch_size": ANSWERS,
                "gradient_accumulation_steps": 1,
                "local_rollout_forward_batch_size": settings["per_device_train_batch_size"],
            }
            return self._trl("ppo", self.config.trl_python, arguments, seed, "objective/scores")
        output = self.folder / f"{side} {seed}"
        peak = self._process(
            *(sys.executable, "recipes/ppo.py", "--config", CONFIGS / "ppo.yaml"),
            *self._flags(output, seed),
            *("--value_model", "head" if side == PPO_SIDES[2] else "policy"),
            *("--total_episodes", ANSWERS * updates, "--save_steps", updates, "--warmup_ratio", 0),
        )
        return _result(output, peak)

    def _grpo(self, side: str, seed: int) -> Result:
        steps = self.config.updates * 2
        if side == GRPO_SIDES[0]:
            arguments = yaml.safe_load((CONFIGS / "grpo.yaml").read_text(encoding="utf-8"))
            for ours in ("model_name_or_path", "rewards", "prompts", "dtype"):
                del arguments[ours]
            arguments |= {"max_steps": steps}
            return self._trl("grpo", sys.executable, arguments, seed, "reward")
        output = self.folder / f"{side} {seed}"
        peak = self._process(
            *(sys.executable, "recipes/grpo.py", "--config", CONFIGS / "grpo.yaml"),
            *self._flags(output, seed),
            *("--max_steps", steps, "--save_strategy", "no"),
        )
        return _result(output, peak)

    def _flags(self, output: Path, seed: int) -> list[Any]:
        given = {"rewards": self.folder / "reward", "prompts": self.data / "prompts.jsonl"}
        given |= {"output_dir": output, "seed": seed}
        return [word for name, value in given.items() for word in (f"--{name}", value)]

    def _trl(
        self, algorithm: str, python: str, arguments: dict[str, Any], seed: int, score: str
    ) -> Result:
        rows = read_rows(self.data / "prompts.jsonl")
        # TRL's PPO drops a last, smaller batch; of fewer prompts than a batch it drops all
        repeats = math.lcm(len(rows), ANSWERS) // len(rows) if algorithm == "ppo" else 1
        everywhere = {"output_dir": str(self.folder / "trl"), "seed": seed, "save_strategy": "no"}
        everywhere |= {"report_to": "none", "use_cpu": True, "bf16": False}
        everywhere |= {"gradient_checkpointing": False, "disable_tqdm": True}
        result = self.folder / "result.json"
        settings = {
            "algorithm": algorithm,
            "model": resolve("miniature"),
            "reward_model": str(self.folder / "reward"),
            "prompts": [row.messages("prompt", "user") for row in rows] * repeats,
            "arguments": {"logging_steps": 1} | arguments | everywhere,
            "result": str(result),
        }
        write_json(self.folder / "settings.json", settings)
        peak = self._process(python, "benchmarks/benchmark_trl.py", self.folder / "settings.json")
        found = read_json(result)
        scores = [record[score] for record in found["history"] if score in record]
        return Result(found["seconds"], peak, scores)

    def _process(self, *command: Any) -> float:
        """Runs a command to its end; the most memory that it held, in MiB."""
        log = self.folder / "log.txt"
        with log.open("w", encoding="utf-8") as file:
            child = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file)
            _, status, usage = os.wait4(child.pid, 0)
        if status:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{log.read_text()[-2000:]}")
        self.progress.advance()
        return usage.ru_maxrss / 1024


def _result(output: Path, peak_mib: float) -> Result:
    """A run of ours."""
    scores = [row.values["objective/scores"] for row in read_rows(output / "history.jsonl")]
    return Result(read_json(output / "metrics.json")["seconds"], peak_mib, scores)


if __name__ == "__main__":
    run(main)
