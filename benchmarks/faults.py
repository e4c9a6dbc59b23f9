"""Every stage killed at random moments and continued: is its result that of a run left alone?

    python benchmarks/faults.py

Runs each stage on a little of the miniature's data, once left alone, then again and again killed
(SIGKILL to all its processes) at moments drawn between its first file and its end, four times at
most before it may finish. What it has then must be what the undisturbed run has: the same files,
and labels, rewards, scores and weights that are the same byte for byte. Writes a table to
OUTPUT_DIR. Continues where it was stopped.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge
from stages import configured

from icm_rl.files import read_json, write_json, write_text
from icm_rl.miniature.data import write_data
from icm_rl.pipeline import write_preferences
from icm_rl.progress import Progress
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.shipped import script
from icm_rl.tasks import TASKS

KILLS_OF_A_RUN = 4


@dataclass
class FaultsConfig:
    """How often each stage is killed."""

    kills: Annotated[int, Ge(1)] = field(
        default=100, metadata={"help": "Kills of all stages together."}
    )
    seed: int = field(default=0, metadata={"help": "Draws the moments."})
    output_dir: str = field(
        default="runs/faults", metadata={"help": "Folder of the data, the runs and the table."}
    )


@dataclass(frozen=True)
class Stage:
    """A stage that is killed.

    Attributes:
        name: Its name, and that of its folders.
        program: The recipe or script.
        flags: Its command line, without the output folder.
        results: The files that must be the same byte for byte.
    """

    name: str
    program: str
    flags: Sequence[object]
    results: Sequence[str]


def main() -> None:
    (config,) = parse([FaultsConfig])
    folder = Path(config.output_dir)
    _write_data(folder / "data")
    stages = _stages(folder / "data", folder / "alone")
    progress = Progress("kills", config.kills)
    lines = ["| stage | left alone, s | kills | runs | as left alone |", "|---" * 5 + "|"]
    for number, stage in enumerate(stages):
        share = len(range(number, config.kills, len(stages)))
        found = _campaign(stage, folder, share, random.Random(f"{config.seed} {stage.name}"))
        progress.advance(share)
        lines.append(
            f"| {stage.name} | {found['seconds']:.0f} | {found['kills']} | {found['runs']} "
            f"| {found['same']} |"
        )
    progress.close()
    text = "\n".join(lines)
    write_text(folder / "kills.md", text + "\n")
    print(text)


def _write_data(folder: Path) -> None:
    if folder.exists():
        return
    unfinished = folder.with_suffix(".unfinished")
    write_data(unfinished)
    few = TASKS["preferences"].load(unfinished / "preferences_train.jsonl", 48)
    write_preferences(few, unfinished)
    unfinished.rename(folder)


def _stages(data: Path, alone: Path) -> list[Stage]:
    """All stages; those that read what another makes come after it."""
    reward, policy = alone / "reward model", alone / "ppo" / "policy"
    pairs = ("--task", "preferences", "--data", data / "preferences_train.jsonl")
    bare = ("--baselines", "false", "--signals", "false")
    rewarded = ("--rewards", reward, "--prompts", data / "prompts.jsonl", "--save_steps", 1)
    labels = ("labels.jsonl", "preferences.jsonl")
    weights = ("policy/model.safetensors",)
    return [
        Stage(
            "search",
            "recipes/icm.py",
            (*pairs, *bare, "--limit", 24, "--pool_size", 16, "--dtype", "float32"),
            labels,
        ),
        Stage(
            "folds",
            "recipes/icm.py",
            (
                *(*configured("miniature/folds"), *pairs, *bare, "--limit", 24),
                *("--folds", 2, "--save_steps", 1),
            ),
            labels,
        ),
        Stage(
            "reward model",
            "recipes/reward.py",
            (
                *(*configured("miniature/reward"), "--save_strategy", "steps", "--save_steps", 2),
                *("--preferences", data / "preferences_gold.jsonl", "--num_train_epochs", 2),
            ),
            ("model.safetensors",),
        ),
        Stage(
            "spread",
            "recipes/spread.py",
            ("--reward_model", reward, "--data", data / "preferences_5000.jsonl", "--limit", 1500),
            labels[1:],
        ),
        Stage(
            "responses",
            "recipes/responses.py",
            (
                *("--model", "miniature", "--prompts", data / "prompts.jsonl"),
                *("--dtype", "float32", "--responses_per_prompt", 32),
            ),
            ("responses.jsonl",),
        ),
        Stage(
            "ppo",
            "recipes/ppo.py",
            (*configured("miniature/ppo"), *rewarded, "--total_episodes", 768),
            (*weights, "answers.jsonl"),
        ),
        Stage(
            "grpo",
            "recipes/grpo.py",
            (*configured("miniature/grpo"), *rewarded, "--max_steps", 12),
            weights,
        ),
        Stage(
            "rewardbench",
            "eval/rewardbench.py",
            ("--reward_model", reward, "--benchmark", data / "benchmark.jsonl"),
            ("scores.parquet",),
        ),
        Stage(
            "policy",
            "eval/policy.py",
            (
                *(*configured("miniature/policy"), "--model", policy),
                *("--reference_reward_model", reward, "--benchmark", data / "benchmark.jsonl"),
            ),
            ("answers.jsonl",),
        ),
    ]


def _campaign(stage: Stage, folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """Kills a stage so often; how long it takes alone, its runs, and how many had its results."""
    file = folder / "killed" / f"{stage.name}.json"
    if file.exists():
        return read_json(file)
    alone = folder / "alone" / stage.name
    shutil.rmtree(alone, ignore_errors=True)
    process, start = _start(stage, alone), time.monotonic()
    _wait(process, alone.exists)
    began = time.monotonic() - start
    process.wait()
    took = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"{stage.name}: a run left alone ended with {process.returncode}")
    killed = runs = same = 0
    while killed < kills:
        own = folder / "killed" / f"{stage.name} {runs}"
        shutil.rmtree(own, ignore_errors=True)
        for _ in range(min(KILLS_OF_A_RUN, kills - killed)):
            fresh, moment = not own.exists(), rng.uniform(began, took)
            process = _start(stage, own)
            if fresh:
                _wait(process, own.exists)
            try:
                process.wait(moment - began if fresh else moment)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
        runs += 1
        code = _start(stage, own).wait()
        same += code == 0 and _same(alone, own, stage.results)
    found = {"seconds": took, "kills": killed, "runs": runs, "same": same}
    write_json(file, found)
    return found


def _wait(process: subprocess.Popen, appears: Callable[[], bool]) -> None:
    """Waits until ``appears()`` is true, or the process has ended."""
    while process.poll() is None and not appears():
        time.sleep(0.01)


def _start(stage: Stage, folder: Path) -> subprocess.Popen:
    """A stage as a process group; what it says goes into a file beside its folder."""
    command = [sys.executable, script(stage.program), *map(str, stage.flags)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [*command, "--output_dir", str(folder)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _same(alone: Path, own: Path, results: Sequence[str]) -> bool:
    files = [
        sorted(str(f.relative_to(of)) for f in of.rglob("*") if f.is_file()) for of in (alone, own)
    ]
    if files[0] != files[1]:
        print(f"{own}: other files: {set(files[0]) ^ set(files[1])}", file=sys.stderr)
        return False
    different = [r for r in results if (alone / r).read_bytes() != (own / r).read_bytes()]
    if different:
        print(f"{own}: not the same: {', '.join(different)}", file=sys.stderr)
    return not different


if __name__ == "__main__":
    run(main)
