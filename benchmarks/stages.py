"""Recipes, run one after the other as a user runs them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from icm_rl.files import read_json
from icm_rl.programs import Ended, run_program
from icm_rl.shipped import script, shipped


def run_recipe(program: str, *flags: object, launcher: Sequence[str] = ()) -> Ended:
    """Runs a recipe or script to its end, under a line that tells its command.

    Args:
        program: The recipe or script, named as in a checkout.
        flags: Its command line.
        launcher: What starts it in the interpreter's place.

    Raises:
        SystemExit: It failed, with its exit code.
    """
    words = list(map(str, flags))
    print(f"\n{program} {' '.join(words)}", file=sys.stderr, flush=True)
    ended = run_program(script(program), words, launcher)
    if ended.code:
        raise SystemExit(ended.code)
    return ended


def configured(name: str) -> tuple[str, str]:
    """The flag that names a shipped config, such as ``miniature/icm``."""
    return "--config", shipped(f"recipes/configs/{name}.yaml")


def reward_model_score(preferences: Path, folder: Path, benchmark: Path, *flags: object) -> float:
    """Trains a reward model of these preferences in a folder; its score on a benchmark."""
    scored = folder.with_name(f"{folder.name}_scored")
    own = ("--preferences", preferences, "--output_dir", folder)
    run_recipe("recipes/reward.py", *configured("miniature/reward"), *own, *flags)
    asked = ("--reward_model", folder, "--benchmark", benchmark)
    run_recipe("eval/rewardbench.py", *asked, "--output_dir", scored)
    score: float = read_json(scored / "metrics.json")["score"]
    return score
