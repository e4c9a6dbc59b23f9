"""``icm-rl``: each recipe and script as a subcommand, and the configs that come with them."""

import shutil
import sys
from importlib import import_module
from pathlib import Path

PROGRAMS = {
    "responses": ("recipes.responses", "sample responses to prompts, to be labeled"),
    "icm": ("recipes.icm", "stage 1: label a data set with a base model"),
    "forecast": ("recipes.forecast", "whether labels are to be trusted, before there are any"),
    "plan": ("recipes.plan", "what a labeling will take, before it runs"),
    "experiment": ("recipes.experiment", "compare ways to label"),
    "reward": ("recipes.reward", "stage 2: train a reward model on preferences"),
    "spread": ("recipes.spread", "label many pairs by a reward model that learned a few"),
    "ppo": ("recipes.ppo", "stage 3: train a policy with PPO"),
    "grpo": ("recipes.grpo", "stage 3: train a policy with GRPO"),
    "pipeline": ("recipes.pipeline", "the whole chain in one run folder"),
    "rewardbench": ("eval.rewardbench", "score a reward model or a judge on RewardBench"),
    "policy": ("eval.policy", "score policies' answers by reference reward models"),
    "report": ("eval.report", "write a run's report again, or compare runs"),
    "miniature": ("recipes.miniature", "pretrain the embedded base model again"),
}
DEMO = ["--config", "recipes/configs/miniature.yaml"]

_HELP = """usage: icm-rl COMMAND [--config FILE.yaml] [--setting VALUE …]

Reward models and assistants without human labels.

{commands}

'icm-rl COMMAND --help' explains each setting. On several GPUs the same programs are started by
'accelerate launch -m icm_rl.recipes.ppo …'.
"""


def main() -> None:
    """Runs the subcommand that the command line names."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name == "demo":
        name, rest = "pipeline", [*DEMO, *rest]
    if name in PROGRAMS:
        _run(name, rest)
    elif name == "configs":
        sys.exit(_configs(rest))
    elif name in ("-h", "--help"):
        print(_HELP.format(commands=_listed()))
    else:
        print(f"error: unknown command '{name}'; 'icm-rl --help' lists all", file=sys.stderr)
        sys.exit(2)


def _run(name: str, args: list[str]) -> None:
    from icm_rl.runner import run  # its imports take seconds, which --help need not wait for

    module = import_module(f"icm_rl.{PROGRAMS[name][0]}")
    sys.argv = [f"icm-rl {name}", *args]
    run(module.main)


def _listed() -> str:
    shown = {name: what for name, (_, what) in PROGRAMS.items()} | {
        "demo": "the whole chain on the embedded miniature, in runs/demo",
        "configs": "list the configs that come with the package; --copy copies them here",
    }
    return "\n".join(f"  {name:<12} {what}" for name, what in shown.items())


def _configs(args: list[str]) -> int:
    """Lists the configs, or copies them to where ``--config`` finds them first."""
    from icm_rl.shipped import CONFIGS, configs

    if args not in ([], ["--copy"]):
        print("usage: icm-rl configs [--copy]", file=sys.stderr)
        return 0 if args in (["-h"], ["--help"]) else 2
    folder = configs()
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    said = []  # all at the end, so that no reader who closes the pipe stops the copying
    for file in files:
        target = CONFIGS / file
        if not args:
            said.append(str(target))
        elif target.exists():
            said.append(f"{target}: is there already, left as it is")
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, Path(target))
            said.append(f"{target}: copied")
    print("\n".join(said))
    return 0
