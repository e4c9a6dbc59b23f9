"""Settings: dataclasses read from a YAML file by ``TrlParser``, each overridden by its flag."""

import difflib
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin

import yaml
from trl import TrlParser

from icm_rl.errors import InputError


def parse(dataclasses: Sequence[type], args: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Reads ``--config FILE.yaml`` and the flags after it into one instance of each dataclass.

    Args:
        dataclasses: Settings classes whose fields carry a ``help`` text.
        args: The command line, or None for this process's.

    Raises:
        InputError: The file is missing or is not YAML, or a key, a flag or a value is not known.
    """
    args = list(sys.argv[1:] if args is None else args)
    parser = TrlParser(dataclasses)
    parser.add_argument("--config", metavar="FILE", help="A YAML file with any of these settings.")
    types = {field.name: field.type for settings in dataclasses for field in fields(settings)}
    known = set(types)
    for arg in args:
        if arg.startswith("--"):
            name = arg[2:].split("=")[0]
            if name.replace("-", "_") not in {*known, "config", "help"} and not (
                name.startswith("no_") and name[3:] in known
            ):
                raise InputError(f"unknown flag '{arg}'; {_suggest(name, known)}")
    args, path = _without_config(args)
    config = _read(path) if path else {}
    for key in config:
        if key not in known:
            raise InputError(f"{path}: unknown key '{key}'; {_suggest(str(key), known)}")
        if get_origin(types[key]) is list and not isinstance(config[key], list):
            config[key] = [config[key]]
    parser.set_defaults_with_config(**config)
    try:
        return tuple(parser.parse_args_into_dataclasses(args=args)[: len(dataclasses)])
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None


def require_at_least(config: Any, **least: float) -> None:
    """Checks settings that have a least value.

    Raises:
        InputError: One of them is smaller.
    """
    for name, value in least.items():
        if getattr(config, name) < value:
            raise InputError(f"--{name} is {getattr(config, name)}; give {value} or more")


def require_given(config: Any, *names: str) -> None:
    """Checks settings without a default.

    Raises:
        InputError: One of them is missing.
    """
    for name in names:
        if not getattr(config, name):
            raise InputError(f"--{name} is missing; give it, or a --config that has it")


def changed(config: Any, default: Any, without: set[str]) -> dict[str, Any]:
    """The settings that differ from their defaults, as plain values."""
    return {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in without and getattr(config, field.name) != getattr(default, field.name)
    }


def _without_config(args: list[str]) -> tuple[list[str], str | None]:
    """The command line without ``--config``, and the path that it gives."""
    rest, path = [], None
    words = iter(args)
    for word in words:
        if word == "--config":
            path = next(words, None)
            if path is None:
                raise InputError("--config needs the path of a YAML file")
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
        else:
            rest.append(word)
    return rest, path


def _read(path: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check --config") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: must hold 'key: value' lines")
    return config


def _suggest(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"did you mean '{near[0]}'?" if near else "--help lists all of them"
