"""The whole chain in one run folder: ICM, reward models, PPO or GRPO, RewardBench, report.

    python recipes/pipeline.py --config recipes/configs/miniature.yaml

Each stage is the recipe that also runs alone, as a process of its own. A chain that was stopped is
continued by the same command: what is complete for the same settings is skipped.
"""

from pathlib import Path

from icm_rl.errors import InputError
from icm_rl.miniature.data import write_data
from icm_rl.pipeline import (
    PipelineConfig,
    response_commands,
    run_stages,
    stage_commands,
    write_benchmark,
    write_preferences,
)
from icm_rl.report.collect import collect
from icm_rl.report.printed import results_table
from icm_rl.report.run import read_run, report_path, write_comparison, write_report
from icm_rl.runner import run
from icm_rl.settings import parse
from icm_rl.tasks import TASKS
from icm_rl.terminal import say


def main() -> None:
    (config,) = parse([PipelineConfig])
    folder = Path(config.run_dir)
    paths = {name: getattr(config, name) for name in ("data", "prompts", "benchmark")}
    if config.world_seed is not None:
        files = {"data": "preferences_train", "prompts": "prompts", "benchmark": "benchmark"}
        write_data(folder / "data", config.world_seed)
        paths = {k: paths[k] or str(folder / "data" / f"{v}.jsonl") for k, v in files.items()}
    if config.responses_config and paths["prompts"]:
        stages = response_commands(config, paths["prompts"])
        run_stages(config, list(stages.values()))
        sampled = {
            name: str(stage.done.with_name("responses.jsonl")) for name, stage in stages.items()
        }
        paths["data"] = sampled["train"]
        if paths["benchmark"] is None and "held_out" in sampled:
            paths["benchmark"] = str(folder / "data" / "benchmark.jsonl")
            write_benchmark(TASKS[config.task].load(sampled["held_out"]), Path(paths["benchmark"]))
    for name, path in paths.items():
        if path is None:
            raise InputError(f"--{name} is missing: name a file, or set --world_seed")
    sources = write_preferences(TASKS[config.task].load(paths["data"]), folder / "data")
    config.check_label_sources(sources)
    run_stages(config, list(stage_commands(config, paths, sources)))
    for source in config.label_sources:
        report = collect(folder, config.rl, source)
        page = write_report(folder, report)
        say(results_table(report))
        say(f"\nreport: {page}")
    if len(config.label_sources) > 1:
        runs = [(name, *read_run(report_path(folder, name))) for name in config.label_sources]
        write_comparison(folder / "comparison.html", runs)
        say(f"comparison: {folder / 'comparison.html'}")


if __name__ == "__main__":
    run(main)
