"""The whole chain in one run folder: ICM, reward models, PPO or GRPO, RewardBench, report.

    python recipes/pipeline.py --config recipes/configs/miniature.yaml

Each stage is the recipe that also runs alone, as a process of its own. A chain that was stopped is
continued by the same command: what is complete for the same settings is skipped.
"""

from pathlib import Path

from icm_rl.errors import InputError, run
from icm_rl.files import write_text
from icm_rl.miniature.data import write_data
from icm_rl.pipeline import PipelineConfig, run_stages, stage_commands, write_preferences
from icm_rl.report.collect import collect
from icm_rl.report.comparison import comparison_page
from icm_rl.report.page import html
from icm_rl.report.run import read_run, report_path, results_table, write_report
from icm_rl.settings import parse
from icm_rl.tasks import TASKS


def main() -> None:
    (config,) = parse([PipelineConfig])
    folder = Path(config.run_dir)
    paths = {name: getattr(config, name) for name in ("data", "prompts", "benchmark")}
    if config.world_seed is not None:
        files = {"data": "preferences_train", "prompts": "prompts", "benchmark": "benchmark"}
        write_data(folder / "data", config.world_seed)
        paths = {k: paths[k] or str(folder / "data" / f"{v}.jsonl") for k, v in files.items()}
    for name, path in paths.items():
        if path is None:
            raise InputError(f"--{name} is missing: name a file, or set --world_seed")
    sources = write_preferences(TASKS[config.task].load(paths["data"]), folder / "data")
    if config.reference_reward_model is None and "gold" not in sources:
        raise InputError(
            "--reference_reward_model is missing: without gold labels in the data there is no "
            "reward model to judge the policy; name one"
        )
    for labels in config.labels:
        if labels not in ("icm", *sources):
            known = ", ".join(("icm", *sources))
            raise InputError(f"--labels: there are no {labels} labels; the data have {known}")
    run_stages(config, list(stage_commands(config, paths, sources)))
    for labels in config.labels:
        report = collect(folder, config.rl, labels)
        page = write_report(folder, report)
        print(results_table(report))
        print(f"\nreport: {page}")
    if len(config.labels) > 1:
        runs = [(labels, *read_run(report_path(folder, labels))) for labels in config.labels]
        write_text(folder / "comparison.html", html(comparison_page(runs)))
        print(f"comparison: {folder / 'comparison.html'}")


if __name__ == "__main__":
    run(main)
