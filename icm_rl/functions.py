"""The user's own functions, named as FILE.py:FUNCTION."""

import runpy
from collections.abc import Callable
from typing import Any

from icm_rl.errors import InputError


def function_file(name: str) -> str:
    """The file of ``FILE.py:FUNCTION``; any other name as it is."""
    path, _, _ = name.rpartition(":")
    return path if path.endswith(".py") else name


def load_function(flag: str, name: str) -> Callable[..., Any]:
    """The function that ``name``, a value of the setting ``flag``, names.

    Raises:
        InputError: There is no such file or function.
    """
    path, _, function = name.rpartition(":")
    try:
        found = runpy.run_path(path).get(function)
    except OSError as error:
        raise InputError(f"--{flag} {name}: {path} cannot be read ({error.strerror})") from None
    if not callable(found):
        raise InputError(f"--{flag} {name}: {path} defines no function '{function}'")
    return found
