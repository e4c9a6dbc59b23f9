"""The chain of stages in one run folder: what each is called, runs as, reads and writes."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icm_rl.files import fingerprint, read_json, write_json, write_jsonl
from icm_rl.icm.labeling import preference_rows
from icm_rl.tasks import PAIR_TASKS, Dataset


@dataclass
class PipelineConfig:
    """The whole chain: ICM labels, reward models, a policy, and their scores."""

    run_dir: str = field(default="runs/demo", metadata={"help": "Folder of the run."})
    model: str = field(
        default="miniature",
        metadata={"help": "Base model that labels, is made a reward model, and is the policy."},
    )
    task: str = field(
        default="preferences",
        metadata={
            "help": f"Task of the data: {', '.join(PAIR_TASKS)}.",
            "choices": list(PAIR_TASKS),
        },
    )
    data: str | None = field(
        default=None, metadata={"help": "The preference pairs; by default the miniature's."}
    )
    prompts: str | None = field(
        default=None, metadata={"help": "The policy's prompts; by default the miniature's."}
    )
    benchmark: str | None = field(
        default=None,
        metadata={"help": "RewardBench's Hub name or file; by default the miniature's."},
    )
    reference_reward_model: str | None = field(
        default=None,
        metadata={"help": "Judges the policies; by default the reward model of gold labels."},
    )
    world_seed: int | None = field(
        default=None, metadata={"help": "Seed of the miniature world, where it is the world."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of every stage."})
    icm_config: str = field(
        default="recipes/configs/miniature/icm.yaml", metadata={"help": "Settings of ICM."}
    )
    reward_config: str = field(
        default="recipes/configs/miniature/reward.yaml",
        metadata={"help": "Settings of the reward models."},
    )
    rl: str = field(
        default="ppo",
        metadata={"help": "How the policy is trained: ppo or grpo.", "choices": ["ppo", "grpo"]},
    )
    labels: list[str] = field(
        default_factory=lambda: ["icm"],
        metadata={
            "help": "By whose labels' reward model it is trained: icm, and where the data have "
            "them gold and human; for each a policy and a report, and a page that compares them."
        },
    )
    ppo_config: str = field(
        default="recipes/configs/miniature/ppo.yaml", metadata={"help": "Settings of PPO."}
    )
    grpo_config: str = field(
        default="recipes/configs/miniature/grpo.yaml", metadata={"help": "Settings of GRPO."}
    )
    policy_config: str = field(
        default="recipes/configs/miniature/policy.yaml",
        metadata={"help": "Settings of the policies' evaluation."},
    )
    accelerate_config: str | None = field(
        default=None, metadata={"help": "Train by 'accelerate launch' with this config."}
    )


@dataclass(frozen=True)
class StageCommand:
    """One stage as a process: its title, its command, and the file that it writes last."""

    title: str
    command: list[str]
    done: Path


def label_sources(data: Dataset) -> dict[str, dict[str, bool]]:
    """The labels beside ICM's that a data set brings along, where they are complete."""
    known = {"gold": data.gold, "human": data.human}
    return {name: labels for name, labels in known.items() if len(labels) == len(data.examples)}


def write_preferences(data: Dataset, folder: Path) -> list[str]:
    """Writes the preferences by gold and by human labels, where known, and returns their names."""
    sources = label_sources(data)
    for name, labels in sources.items():
        write_jsonl(folder / f"preferences_{name}.jsonl", preference_rows(data, labels))
    return list(sources)


def stage_commands(config: PipelineConfig, paths: dict[str, str], sources: Sequence[str]):
    """The stages after the data, in order.

    Args:
        config: The chain's settings.
        paths: Where ``data``, ``prompts`` and ``benchmark`` are.
        sources: The labels besides ICM's that are compared: ``gold`` and ``human`` where known.
    """
    run = Path(config.run_dir)
    python = launch = [sys.executable]
    if config.accelerate_config:
        accelerate = ["-m", "accelerate.commands.launch", "--config_file", config.accelerate_config]
        launch = [*python, *accelerate]
    seed = ["--seed", str(config.seed)]

    def stage(title, program, folder, *flags) -> StageCommand:
        command = [*program, "--output_dir", str(run / folder), *flags]
        return StageCommand(title, command, run / folder / "metrics.json")

    yield stage(
        "ICM labels the preferences",
        [*python, "recipes/icm.py", "--config", config.icm_config],
        "icm",
        *("--model", config.model, "--task", config.task, "--data", paths["data"], *seed),
    )
    preferences = {"icm": run / "icm" / "preferences.jsonl"}
    preferences |= {name: run / "data" / f"preferences_{name}.jsonl" for name in sources}
    for name, path in preferences.items():
        yield stage(
            f"A reward model learns the {name} labels",
            [*launch, "recipes/reward.py", "--config", config.reward_config],
            f"reward/{name}",
            *("--model_name_or_path", config.model, "--preferences", str(path), *seed),
        )
    for name in preferences:
        yield stage(
            f"RewardBench scores the reward model of the {name} labels",
            [*launch, "eval/rewardbench.py"],
            f"rewardbench/{name}",
            *("--reward_model", str(run / "reward" / name), "--benchmark", paths["benchmark"]),
        )
    yield stage(
        "RewardBench scores the base model as a zero-shot judge",
        [*launch, "eval/rewardbench.py"],
        "rewardbench/judge",
        *("--judge", config.model, "--benchmark", paths["benchmark"]),
    )
    rl_config = config.ppo_config if config.rl == "ppo" else config.grpo_config
    reference = config.reference_reward_model or str(run / "reward" / "gold")
    world = [] if config.world_seed is None else ["--world_seed", str(config.world_seed)]
    for labels in config.labels:
        training, scoring = policy_folders(config.rl, labels)
        yield stage(
            f"{config.rl.upper()} trains the policy by the {labels} labels",
            [*launch, f"recipes/{config.rl}.py", "--config", rl_config],
            training,
            *("--model_name_or_path", config.model, "--rewards", str(run / "reward" / labels)),
            *("--prompts", paths["prompts"], *seed),
        )
        yield stage(
            "The reference reward model scores the policy before and after",
            [*launch, "eval/policy.py", "--config", config.policy_config],
            scoring,
            *("--model", str(run / training / "policy"), "--baseline", config.model),
            *("--reference_reward_model", reference, "--benchmark", paths["benchmark"]),
            *(*world, *seed),
        )


def policy_folders(rl: str, labels: str) -> tuple[str, str]:
    """The folders in a run's of a policy's training and of its scores."""
    name = rl if labels == "icm" else f"{rl}-{labels}"
    return name, f"policy/{name}"


def run_stages(config: PipelineConfig, stages: Sequence[StageCommand]) -> None:
    """Runs each stage that is not complete; stops the chain where one fails.

    A stage is skipped where it wrote its last file and neither its command nor any file that the
    command names has changed since. ``stages.json`` remembers that, and the seconds of the start
    that completed it.

    Raises:
        SystemExit: A stage failed; with its exit code.
    """
    record = Path(config.run_dir) / "stages.json"
    known = read_json(record) if record.exists() else {}
    for number, stage in enumerate(stages, 1):
        name = str(stage.done.parent.relative_to(config.run_dir))
        identity = _identity(stage)
        complete = stage.done.exists() and known.get(name, {}).get("identity") == identity
        state = " (complete)" if complete else ""
        print(f"\n[{number}/{len(stages)}] {stage.title}{state}", file=sys.stderr, flush=True)
        if complete:
            continue
        start = time.monotonic()
        code = subprocess.run(stage.command, check=False).returncode
        if code:
            raise SystemExit(code if code > 0 else 128 - code)
        known[name] = {"seconds": round(time.monotonic() - start, 2), "identity": identity}
        write_json(record, known)


def _identity(stage: StageCommand) -> str:
    """A hash of the stage's command and of the files and folders that it names as its inputs."""
    words = [word for word in stage.command[1:] if word != str(stage.done.parent)]
    return hashlib.sha256(" ".join(map(fingerprint, words)).encode()).hexdigest()[:16]
