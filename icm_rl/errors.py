"""Bad input, told in one line."""


class InputError(Exception):
    """The user's input is wrong: what, where, and what to do about it, in one line."""


def first_line(error: Exception) -> str:
    """The first line of what a library says went wrong."""
    return str(error).strip().split("\n")[0]
