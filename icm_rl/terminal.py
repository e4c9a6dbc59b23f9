"""What is printed: no text from data or from a model may steer a terminal."""

import sys
from typing import TextIO


def printable(text: str) -> str:
    """The text with what a terminal would obey, or hide, as escapes."""
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def say(text: str, file: TextIO | None = None) -> None:
    """Prints the text, to standard output unless another file is named."""
    print(printable(text), file=file or sys.stdout)
