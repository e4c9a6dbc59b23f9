"""Bad input, told in one line."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """The user's input is wrong: what, where, and what to do about it, in one line."""


def run(main: Callable[[], None]) -> None:
    """Runs a recipe; an ``InputError`` becomes one line on standard error and exit code 2."""
    try:
        main()
    except InputError as error:
        sys.exit(_fail(str(error)))


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
