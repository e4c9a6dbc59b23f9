"""Starts a recipe or script as a process of its own."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import torch

_SHARED = (
    *("icm_rl.icm.labeling", "icm_rl.reward.training", "icm_rl.rl.ppo", "icm_rl.rl.grpo"),
    *("icm_rl.rewardbench.reward_model", "icm_rl.rewardbench.policy"),
)
"""What the programs import, which takes longer than some of them run."""


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit code, and the memory of its largest process, in GiB."""

    code: int
    peak_memory: float


def run_program(script: str, flags: Sequence[str], launcher: Sequence[str] = ()) -> Ended:
    """Runs a program to its end.

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
        with subprocess.Popen(command) as process:
            return _ended(process.pid)
    for name in _SHARED:
        import_module(name)
    forked = multiprocessing.get_context("fork").Process(target=_main, args=(script, flags))
    forked.start()
    return _ended(forked.pid)


def _ended(pid: int | None) -> Ended:
    """Waits for a process, which tells of the largest of itself and those that it waited for."""
    assert pid is not None
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return Ended(code if code >= 0 else 128 - code, usage.ru_maxrss * unit / (1 << 30))


def _main(script: str, flags: Sequence[str]) -> None:
    sys.argv = [script, *flags]
    runpy.run_path(script, run_name="__main__")
