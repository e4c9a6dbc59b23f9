"""What a forked test process runs; it imports nothing, so that nothing has begun to compute."""

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def recipe(args: Sequence[str], stdout: str, stderr: str, environ: Mapping[str, str]) -> None:
    """Becomes a recipe, started from the repository's root in a process group of its own."""
    os.setsid()
    for descriptor, file in ((1, stdout), (2, stderr)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.update(environ)
    os.chdir(ROOT)
    sys.argv = list(args)
    sys.path.insert(0, str(ROOT / Path(args[0]).parent))  # as the interpreter does
    runpy.run_path(args[0], run_name="__main__")
