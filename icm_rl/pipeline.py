"""The chain of stages in one run folder: what each is called, runs as, reads and writes."""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icm_rl.errors import InputError
from icm_rl.files import fingerprint, read_json, write_json, write_jsonl
from icm_rl.functions import function_file
from icm_rl.icm.objective import Labels
from icm_rl.icm.writing import preference_rows
from icm_rl.programs import run_program
from icm_rl.shipped import script, shipped
from icm_rl.tasks import PREFERENCE_TASKS, Dataset

ICM = "icm"
"""The source of labels that stage 1 is; others come with the data."""


@dataclass
class PipelineConfig:
    """The whole chain: ICM labels, reward models, a policy, and their scores."""

    run_dir: str = field(default="runs/demo", metadata={"help": "Folder of the run."})
    model: str = field(
        default="miniature",
        metadata={"help": "The model in each role that is not given one of its own."},
    )
    label_model: str | None = field(
        default=None, metadata={"help": "The base model that labels; by default --model."}
    )
    judge_model: str | None = field(
        default=None,
        metadata={"help": "The base model as a zero-shot judge; by default the one that labels."},
    )
    reward_base_model: str | None = field(
        default=None,
        metadata={"help": "What the reward models are trained from; by default --model."},
    )
    policy_model: str | None = field(
        default=None, metadata={"help": "What the policy is trained from; by default --model."}
    )
    reference_reward_model: str | None = field(
        default=None,
        metadata={"help": "Judges the policies; by default the reward model of gold labels."},
    )
    task: str = field(
        default="preferences",
        metadata={
            "help": f"Task of the data: {', '.join(PREFERENCE_TASKS)}.",
            "choices": list(PREFERENCE_TASKS),
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
    responses_config: str | None = field(
        default=None,
        metadata={
            "help": "Settings of recipes/responses.py, by which the policy's model responds to the "
            "prompts; its responses are the data."
        },
    )
    eval_prompts: str | None = field(
        default=None,
        metadata={
            "help": "Held-out prompts, responded to likewise; of these responses pairs by gold "
            "labels are the benchmark where no other is named."
        },
    )
    rule: str | None = field(
        default=None,
        metadata={
            "help": "Gives responses gold labels and checks the policies' answers, to measure by: "
            "'positive' (the sentiment by VADER's lexicon), or FILE.py:FUNCTION."
        },
    )
    world_seed: int | None = field(
        default=None, metadata={"help": "Seed of the miniature world, where it is the world."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of every stage."})
    icm_config: str = field(
        default="recipes/configs/miniature/icm.yaml", metadata={"help": "Settings of ICM."}
    )
    other_icm_configs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further settings of recipes/icm.py, whose labels a reward model learns to be "
            "compared with ICM's; a file's name without its ending names its labels."
        },
    )
    reward_config: str = field(
        default="recipes/configs/miniature/reward.yaml",
        metadata={"help": "Settings of the reward models."},
    )
    rl: str = field(
        default="ppo",
        metadata={"help": "How the policy is trained: ppo or grpo.", "choices": ["ppo", "grpo"]},
    )
    label_sources: list[str] = field(
        default_factory=lambda: [ICM],
        metadata={
            "help": "By whose labels' reward model the policy is trained: icm, and where the data "
            "have them gold and human; for each a policy and a report, and a page that compares "
            "them.",
            "aliases": ["--labels"],
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

    def __post_init__(self) -> None:
        if self.rule is not None and self.world_seed is not None:
            raise InputError("--rule and --world_seed both check the policies' answers; drop one")
        if self.responses_config is None:
            if self.eval_prompts is not None:
                raise InputError("--eval_prompts are for --responses_config; drop them or give it")
            return
        if self.data is not None:
            raise InputError("--data and --responses_config are both the data; drop one")
        if self.rule is None and self.reference_reward_model is None:
            raise InputError(
                "--rule is missing: without it the responses have no gold labels and there is no "
                "reward model to judge the policy; give it, or name a --reference_reward_model"
            )

    def check_label_sources(self, known: Sequence[str]) -> None:
        """Checks that the data have the labels that are asked for, and something to judge by.

        Args:
            known: The sources of labels that come with the data.

        Raises:
            InputError: They do not.
        """
        if self.reference_reward_model is None and "gold" not in known:
            raise InputError(
                "--reference_reward_model is missing: without gold labels in the data there is no "
                "reward model to judge the policy; name one"
            )
        others = [Path(config).stem for config in self.other_icm_configs]
        for source in self.label_sources:
            if source not in (ICM, *others, *known):
                names = ", ".join((ICM, *others, *known))
                raise InputError(f"--labels: there are no {source} labels; the data have {names}")


@dataclass(frozen=True)
class StageCommand:
    """One stage as a process: its title, its program, and the file that it writes last.

    Attributes:
        title: What it does.
        launcher: Words between the interpreter and the script; none where it starts plainly.
        script: The recipe's or script's file.
        flags: Its command line.
        done: Its last file.
    """

    title: str
    launcher: list[str]
    script: str
    flags: list[str]
    done: Path


def label_sources(data: Dataset) -> dict[str, Labels]:
    """The labels beside ICM's that a data set brings along, where they are complete.

    Of responses a part is enough: each label adds preferences.
    """
    known = {"gold": data.gold, "human": data.human}
    least = 1 if data.responses else len(data.examples)
    return {name: labels for name, labels in known.items() if len(labels) >= least}


def write_preferences(data: Dataset, folder: Path) -> list[str]:
    """Writes the preferences by gold and by human labels, where known, and returns their names."""
    sources = label_sources(data)
    for name, labels in sources.items():
        write_jsonl(folder / f"preferences_{name}.jsonl", preference_rows(data, labels))
    return list(sources)


def write_benchmark(data: Dataset, path: Path) -> None:
    """Writes the preferences by gold labels in RewardBench's columns, all in its Chat section.

    Raises:
        InputError: There is none.
    """
    rows = [
        {
            "id": str(number),
            "subset": "alpacaeval-easy",
            "prompt": row["prompt"],
            **{name: row[name][0]["content"] for name in ("chosen", "rejected")},
        }
        for number, row in enumerate(preference_rows(data, data.gold))
    ]
    if not rows:
        raise InputError(
            "--eval_prompts: to none of these prompts one response is right and another one wrong, "
            "so there is no benchmark; give more prompts, or name a --benchmark"
        )
    write_jsonl(path, rows)


def response_commands(config: PipelineConfig, prompts: str) -> dict[str, StageCommand]:
    """The stages that sample the data and, where prompts are held out, what the benchmark is of.

    Args:
        config: The chain's settings.
        prompts: Where the policy's prompts are.
    """
    run = Path(config.run_dir)
    held_out = {} if config.eval_prompts is None else {"held_out": config.eval_prompts}
    rule = [] if config.rule is None else ["--rule", config.rule]
    return {
        name: StageCommand(
            f"The policy's model responds to {path}",
            _launcher(config),
            script("recipes/responses.py"),
            [
                *("--config", shipped(str(config.responses_config)), *rule),
                *("--model", config.policy_model or config.model, "--prompts", path),
                *("--seed", str(config.seed), "--output_dir", str(run / "responses" / name)),
            ],
            run / "responses" / name / "metrics.json",
        )
        for name, path in ({"train": prompts} | held_out).items()
    }


def _launcher(config: PipelineConfig) -> list[str]:
    """The words between the interpreter and the script."""
    if config.accelerate_config is None:
        return []
    config_file = shipped(config.accelerate_config)
    return ["-m", "accelerate.commands.launch", "--config_file", config_file]


def stage_commands(
    config: PipelineConfig, paths: dict[str, str], sources: Sequence[str]
) -> Iterator[StageCommand]:
    """The stages after the data, in order.

    Args:
        config: The chain's settings.
        paths: Where ``data``, ``prompts`` and ``benchmark`` are.
        sources: The labels besides ICM's that are compared: ``gold`` and ``human`` where known.
    """
    run = Path(config.run_dir)
    launch = _launcher(config)
    label_model = config.label_model or config.model
    judge = config.judge_model or label_model
    reward_base, policy = (
        config.reward_base_model or config.model,
        config.policy_model or config.model,
    )
    seed = ["--seed", str(config.seed)]

    def stage(title, launcher, program, folder, *flags) -> StageCommand:
        words = ["--output_dir", str(run / folder), *flags]
        return StageCommand(title, launcher, script(program), words, run / folder / "metrics.json")

    labelings = {ICM: ("icm", config.icm_config)}
    labelings |= {Path(c).stem: (f"labels/{Path(c).stem}", c) for c in config.other_icm_configs}
    for name, (folder, icm_config) in labelings.items():
        yield stage(
            "ICM labels the preferences" if name == ICM else f"The {name} labels are made",
            [],
            "recipes/icm.py",
            folder,
            *("--config", shipped(icm_config), "--model", label_model),
            *("--task", config.task, "--data", paths["data"], *seed),
        )
    preferences = {
        name: run / folder / "preferences.jsonl" for name, (folder, _) in labelings.items()
    }
    preferences |= {name: run / "data" / f"preferences_{name}.jsonl" for name in sources}
    for name, path in preferences.items():
        yield stage(
            f"A reward model learns the {name} labels",
            launch,
            "recipes/reward.py",
            f"reward/{name}",
            *("--config", shipped(config.reward_config), "--model_name_or_path", reward_base),
            *("--preferences", str(path), *seed),
        )
    for name in preferences:
        yield stage(
            f"RewardBench scores the reward model of the {name} labels",
            launch,
            "eval/rewardbench.py",
            f"rewardbench/{name}",
            *("--reward_model", str(run / "reward" / name), "--benchmark", paths["benchmark"]),
        )
    yield stage(
        "RewardBench scores the base model as a zero-shot judge",
        launch,
        "eval/rewardbench.py",
        "rewardbench/judge",
        *("--judge", judge, "--benchmark", paths["benchmark"]),
    )
    rl_config = config.ppo_config if config.rl == "ppo" else config.grpo_config
    reference = config.reference_reward_model or str(run / "reward" / "gold")
    rule = [] if config.rule is None else ["--rule", config.rule]
    if config.world_seed is not None:
        rule = ["--world_seed", str(config.world_seed)]
    for source in config.label_sources:
        training, scoring = policy_folders(config.rl, source)
        yield stage(
            f"{config.rl.upper()} trains the policy by the {source} labels",
            launch,
            f"recipes/{config.rl}.py",
            training,
            *("--config", shipped(rl_config), "--model_name_or_path", policy),
            *("--rewards", str(run / "reward" / source), "--prompts", paths["prompts"], *seed),
        )
        yield stage(
            "The reference reward model scores the policy before and after",
            launch,
            "eval/policy.py",
            scoring,
            *("--config", shipped(config.policy_config)),
            *("--model", str(run / training / "policy"), "--baseline", policy),
            *("--reference_reward_model", reference, "--benchmark", paths["benchmark"]),
            *(*rule, *seed),
        )


def policy_folders(rl: str, source: str) -> tuple[str, str]:
    """The folders in a run's of a policy's training and of its scores."""
    name = rl if source == ICM else f"{rl}-{source}"
    return name, f"policy/{name}"


def run_stages(config: PipelineConfig, stages: Sequence[StageCommand]) -> None:
    """Runs each stage that is not complete; stops the chain where one fails.

    A stage is skipped where it wrote its last file and neither its command nor any file that the
    command names has changed since. ``stages.json`` remembers that, and of the start that
    completed it the seconds and the most memory that one of its processes held, in GiB.

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
        ended = run_program(stage.script, stage.flags, stage.launcher)
        if ended.code:
            raise SystemExit(ended.code)
        known[name] = {
            "seconds": round(time.monotonic() - start, 2),
            "peak_memory": round(ended.peak_memory, 2),
            "identity": identity,
        }
        write_json(record, known)


def _identity(stage: StageCommand) -> str:
    """A hash of the stage's command and of the files and folders that it names as its inputs."""
    words = [*stage.launcher, stage.script, *stage.flags]
    named = [word for word in words if word != str(stage.done.parent)]
    named += [file for word in named if (file := function_file(word)) != word]
    return hashlib.sha256(" ".join(map(fingerprint, named)).encode()).hexdigest()[:16]
