"""The paper's Section 4.4 on the miniature: two assistants, one by ICM's labels, one by people's.

    python benchmarks/labels.py --chains runs/seeds/seed-0/chain runs/seeds/seed-1/chain

For each finished chain (recipes/pipeline.py), PPO trains the base model once against the chain's
reward model of the ICM labels and once against that of the human labels: same prompts, budget and
seed. Over training the policies answer the benchmark's prompts, and the reward model of the gold
labels, of which neither learns, scores the answers. Continues where it was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated

from annotated_types import Ge
from stages import run_recipe

from icm_rl.data import read_rows
from icm_rl.errors import InputError
from icm_rl.files import read_json, write_jsonl, write_text
from icm_rl.report.plots import curves
from icm_rl.report.table import mean_and_deviation
from icm_rl.rewardbench.benchmark import load_benchmark
from icm_rl.runner import run
from icm_rl.settings import parse, require_given

LABELS = {"human": "by human labels", "icm": "by ICM labels"}
ALL = "All sections"


@dataclass
class LabelsConfig:
    """Two assistants a chain, by ICM's and by human labels."""

    chains: list[str] = field(
        default_factory=list, metadata={"help": "Folders of finished chains, one a seed."}
    )
    ppo_config: str = field(
        default="recipes/configs/miniature/ppo.yaml", metadata={"help": "Settings of PPO."}
    )
    total_episodes: Annotated[int, Ge(1)] = field(
        default=2048, metadata={"help": "Answers that each assistant is trained on."}
    )
    eval_steps: Annotated[int, Ge(1)] = field(
        default=2, metadata={"help": "Updates between two scorings of the policy."}
    )
    output_dir: str = field(
        default="runs/labels", metadata={"help": "Folder for the runs, the table and the picture."}
    )

    def __post_init__(self) -> None:
        require_given(self, "chains")
        for chain in map(Path, self.chains):
            if not all((chain / name).exists() for name in ("report.json", "reward/human")):
                raise InputError(
                    f"{chain}: not a finished chain; run recipes/pipeline.py there, on data with "
                    "human and gold labels"
                )


Curve = tuple[list[int], dict[str, list[float]]]
"""Episodes, and at each the mean reward of the answers, by section and over all sections."""


def main() -> None:
    (config,) = parse([LabelsConfig])
    found: dict[str, list[Curve]] = {name: [] for name in LABELS}
    for seed, chain in enumerate(map(Path, config.chains)):
        for name in LABELS:
            folder = Path(config.output_dir) / f"seed-{seed}" / name
            _train(config, chain, folder, name, seed)
            found[name].append(_curve(chain, folder))
    panels = {
        section: {
            LABELS[name]: [(episodes, scores[section]) for episodes, scores in runs]
            for name, runs in found.items()
        }
        for section in found["icm"][0][1]
    }
    table = _table(panels)
    write_text(Path(config.output_dir) / "table.md", table + "\n")
    write_text(Path(config.output_dir) / "curves.svg", curves(panels, ["episodes"] * len(panels)))
    print(table)


def _train(config: LabelsConfig, chain: Path, folder: Path, name: str, seed: int) -> None:
    """PPO against one reward model, watched by that of the gold labels."""
    benchmark = load_benchmark(chain / "data" / "benchmark.jsonl")
    watched = folder.parent / "benchmark_prompts.jsonl"
    write_jsonl(watched, ({"prompt": row.prompt, "source": row.subset} for row in benchmark.rows))
    reference = chain / "reward" / "gold"
    subsets = dict.fromkeys(row.subset for row in benchmark.rows)
    flags = [
        *("--config", config.ppo_config, "--seed", seed),
        *("--rewards", chain / "reward" / name),
        *(f"{reference}=0@{subset}" for subset in subsets),
        *("--prompts", chain / "data" / "prompts.jsonl", "--eval_prompts", watched),
        *("--total_episodes", config.total_episodes, "--eval_steps", config.eval_steps),
        *("--output_dir", folder),
    ]
    run_recipe("recipes/ppo.py", *flags)


def _curve(chain: Path, folder: Path) -> Curve:
    """The policy's scores over training, from the base model's on."""
    before = read_json(chain / "report.json")["policy"]["sections"]["before"]
    benchmark = load_benchmark(chain / "data" / "benchmark.jsonl")
    episodes, scores = [0], [before["reference_reward"]]
    prefix = f"eval/rewards/{chain / 'reward' / 'gold'}@"
    for record in (row.values for row in read_rows(folder / "history.jsonl")):
        by_subset = {
            name.removeprefix(prefix): value
            for name, value in record.items()
            if name.startswith(prefix)
        }
        if by_subset:
            episodes.append(record["episode"])
            scores.append(benchmark.section_scores(by_subset))
    sections = {name: [at[name] for at in scores] for name in scores[0]}
    return episodes, {ALL: [mean(at.values()) for at in scores], **sections}


def _table(panels: Mapping[str, Mapping[str, Sequence[tuple[list[int], list[float]]]]]) -> str:
    """Final scores by section, and after how many episodes one has the other's final score."""
    lines = [
        f"| | {' | '.join(LABELS.values())} | difference | the other's final score is reached |",
        "|---|" + "---|" * (len(LABELS) + 2),
    ]
    for section, assistants in panels.items():
        episodes = next(iter(assistants.values()))[0][0]
        means = {
            name: [mean(at) for at in zip(*(scores for _, scores in runs), strict=True)]
            for name, runs in assistants.items()
        }
        human, icm = ([scores[-1] for _, scores in assistants[name]] for name in LABELS.values())
        differences = [by_icm - by_human for by_icm, by_human in zip(icm, human, strict=True)]
        better = max(means, key=lambda name: means[name][-1])
        least = min(scores[-1] for scores in means.values())
        reached = next(k for k, score in enumerate(means[better]) if score >= least)
        lines.append(
            f"| {section} | {mean(human):.2f} | {mean(icm):.2f} "
            f"| {mean_and_deviation(differences, 2)} "
            f"| {better}, after {episodes[reached]:,} of {episodes[-1]:,} episodes |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
