"""Bad input, told in one line."""


class InputError(Exception):
    """The user's input is wrong: what, where, and what to do about it, in one line."""
