"""Starts a recipe or script as a process of its own."""

import multiprocessing
import runpy
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module

import torch

_SHARED = (
    *("icm_rl.icm.labeling", "icm_rl.reward.training", "icm_rl.rl.ppo", "icm_rl.rl.grpo"),
    *("icm_rl.rewardbench.reward_model", "icm_rl.rewardbench.policy"),
)
"""What the programs import, which takes longer than some of them run."""


def run_program(script: str, flags: Sequence[str], launcher: Sequence[str] = ()) -> int:
    """Runs a program to its end and returns its exit code.

    Without a GPU, a program that no launcher starts is forked from this process, with all that has
    been imported. This process must not have computed anything by torch: neither a GPU nor torch's
    threads survive a fork.

    Args:
        script: The program's file.
        flags: Its command line.
        launcher: Words between the interpreter and the script.
    """
    if launcher or torch.accelerator.is_available():
        command = [sys.executable, *launcher, script, *flags]
        code = subprocess.run(command, check=False).returncode
    else:
        for name in _SHARED:
            import_module(name)
        process = multiprocessing.get_context("fork").Process(target=_main, args=(script, flags))
        process.start()
        process.join()
        code = process.exitcode or 0
    return code if code >= 0 else 128 - code


def _main(script: str, flags: Sequence[str]) -> None:
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")
