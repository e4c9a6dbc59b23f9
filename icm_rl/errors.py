"""Bad input, told in one line."""

import logging
import sys
import warnings
from collections.abc import Callable

import datasets
import transformers


class InputError(Exception):
    """The user's input is wrong: what, where, and what to do about it, in one line."""


def run(main: Callable[[], None]) -> None:
    """Runs a recipe; an ``InputError`` becomes one line on standard error and exit code 2."""
    quiet_libraries()
    try:
        main()
    except InputError as error:
        sys.exit(_fail(str(error)))


def quiet_libraries() -> None:
    """Turns off the libraries' own progress bars and notices: each stage shows its own."""
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("torch.multiprocessing").setLevel(logging.ERROR)


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
