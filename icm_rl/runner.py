"""Runs a recipe as a program: its bad input as one line, its end, and what it need not do again."""

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Callable

import datasets
import transformers

from icm_rl.errors import InputError
from icm_rl.files import Stage


def run(main: Callable[[], None]) -> None:
    """Runs a recipe; an ``InputError`` becomes one line on standard error and exit code 2."""
    quiet_libraries()
    code = 0
    try:
        main()
    except InputError as error:
        code = _fail(str(error))
    if "RANK" in os.environ:
        _leave(code)
    sys.exit(code)


def already_complete(stage: Stage, is_main_process: bool) -> bool:
    """Whether a stage has all its results; says so, in the main process."""
    if stage.complete and is_main_process:
        print(f"{stage.folder}: complete, nothing to do")
    return stage.complete


def quiet_libraries() -> None:
    """Turns off the libraries' own progress bars and notices: each stage shows its own."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("torch.multiprocessing").setLevel(logging.ERROR)


def _leave(code: int) -> None:
    """Ends one of several launched processes without taking the interpreter down first.

    A thread of Gloo that waits for the interpreter's lock to drop its last tensor, when the
    interpreter goes, aborts the process (pytorch/pytorch#190489). Under ZeRO-3 the parameters
    keep the process groups, and so these threads, beyond ``destroy_process_group``.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
