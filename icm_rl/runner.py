"""Runs a recipe as a program: its bad input as one line, its end, and what it need not do again."""

import atexit
import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable

import datasets
import transformers

from icm_rl.errors import InputError
from icm_rl.files import Stage
from icm_rl.terminal import say


def run(main: Callable[[], None]) -> None:
    """Runs a recipe; bad input or a full disk becomes one line on standard error, exit code 2."""
    quiet_libraries()
    code = 0
    try:
        main()
    except InputError as error:
        code = _fail(str(error))
    except Exception as error:
        refused = _refused_by_disk(error)
        if refused is None:
            raise
        code = _fail(f"{refused}; mend that and run the same command again, which goes on")
    if "RANK" in os.environ:
        _leave(code)
    sys.exit(code)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
_FULL = ("No space left on device", "Disk quota exceeded", "file write failed")
"""What libraries say of a full disk that do not raise an ``OSError``: the last is torch's."""


def _refused_by_disk(error: BaseException) -> str | None:
    """What a disk did not do, if that is why a program ended."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK:
            return f"{cause.filename or 'the output folder'}: {os.strerror(cause.errno)}"
        if any(words in str(cause) for words in _FULL):
            return f"the output folder: {cause}"
        cause = cause.__cause__ or cause.__context__
    return None


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
    warnings.filterwarnings("ignore", message=r"barrier\(\): using the device")
    for library in ("torch.multiprocessing", "accelerate.utils.other"):
        logging.getLogger(library).setLevel(logging.ERROR)
    # importing DeepSpeed sets its logger's level, but keeps a filter
    logging.getLogger("DeepSpeed").addFilter(lambda record: record.levelno >= logging.ERROR)


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
    say(f"error: {' '.join(message.split())}", sys.stderr)
    return 2
