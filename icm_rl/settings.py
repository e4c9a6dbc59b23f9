"""Settings: dataclasses read from a YAML file by ``TrlParser``, each overridden by its flag.

What is known of a setting stands at its field, as its type's annotations: the bounds of a number
(``Annotated[float, Ge(0)]``), that it names an ``INPUT`` or a ``FUNCTION``, or that it is of the
``EXECUTION`` only.
"""

import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from annotated_types import Ge, Gt, Le, Lt
from transformers import TrainingArguments
from trl import ModelConfig, TrlParser

from icm_rl.errors import InputError
from icm_rl.functions import function_file
from icm_rl.models import resolve
from icm_rl.shipped import shipped


class Mark(Enum):
    """What a setting is, where not only its value decides a stage's results."""

    FUNCTION = "is a name, or FILE.py:FUNCTION, where the file's content counts too"
    INPUT = "names a file or a model, which counts by its content"
    EXECUTION = "says how, where or how visibly a stage runs, and changes no result"


FUNCTION, INPUT, EXECUTION = Mark.FUNCTION, Mark.INPUT, Mark.EXECUTION

_LIBRARIES_INPUTS = {"model_name_or_path"}
_LIBRARIES_EXECUTION = {
    *("output_dir", "run_name", "report_to", "project", "trackio_space_id", "use_cpu"),
    *("logging_steps", "logging_strategy", "logging_first_step", "log_level", "disable_tqdm"),
    *("log_completions", "num_completions_to_print", "trust_remote_code", "ddp_backend"),
    *("save_strategy", "save_steps", "save_total_limit", "save_only_model"),
    *("push_to_hub", "hub_token", "hub_model_id", "hub_strategy", "hub_private_repo"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "dataset_num_proc"),
    *("activation_checkpointing", "activation_checkpointing_kwargs"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"),
    *("ddp_timeout", "per_device_eval_batch_size", "resume_from_checkpoint"),
    *("vllm_mode", "vllm_server_base_url", "vllm_server_host", "vllm_server_port"),
    *("vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization"),
    *("vllm_tensor_parallel_size", "vllm_enable_sleep_mode", "vllm_max_model_length"),
}
"""Settings of transformers and TRL, whose fields are not ours to annotate."""


def parse(
    dataclasses: Sequence[type],
    args: Sequence[str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
    epilog: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Reads ``--config FILE.yaml`` and the flags after it into one instance of each dataclass.

    Args:
        dataclasses: Settings classes whose fields carry a ``help`` text.
        args: The command line, or None for this process's.
        elsewhere: Settings that these classes do not have, each with the words that say where it
            belongs, to be told to whoever gives one.
        epilog: The last words of ``--help``.
        defaults: Values in the place of fields' own defaults.

    Raises:
        InputError: The file is missing or is not YAML, a key, a flag or a value is not known, or a
            number is out of its bounds.
    """
    args = list(sys.argv[1:] if args is None else args)
    parser = TrlParser(dataclasses, epilog=epilog)
    parser.add_argument("--config", metavar="FILE", help="A YAML file with any of these settings.")
    types = {name: hint for of in dataclasses for name, hint in get_type_hints(of).items()}
    names = _names(dataclasses)
    elsewhere = elsewhere or {}

    def unknown(given: str, name: str, otherwise: str) -> InputError:
        if name in elsewhere:
            return InputError(f"{given} is a setting of {elsewhere[name]}; drop it")
        return InputError(f"{otherwise}; {_suggest(name, names)}")

    for arg in args:
        if arg.startswith("--"):
            flag = arg.split("=")[0]
            name = flag[2:].replace("-", "_")
            if name not in {*names, "config", "help"} and name.removeprefix("no_") not in names:
                raise unknown(flag, name, f"unknown flag '{flag}'")
    args, path = _without_config(args)
    config = dict(defaults or {})
    for key, value in (_read(path) if path else {}).items():
        if key not in names:
            raise unknown(f"{path}: '{key}'", str(key), f"{path}: unknown key '{key}'")
        name = names[key]
        config[name] = [value] if get_origin(types[name]) is list and _is_one(value) else value
    parser.set_defaults_with_config(**config)
    try:
        parsed = parser.parse_args_into_dataclasses(args=args)[: len(dataclasses)]
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from None
    for one in parsed:
        check_bounds(one)
    return tuple(parsed)


def given(name: str, default: str, args: Sequence[str] | None = None) -> str:
    """The value that the command line or its ``--config`` gives to one setting, before all others.

    Raises:
        InputError: The file is missing or is not YAML.
    """
    args, path = _without_config(list(sys.argv[1:] if args is None else args))
    value = _read(path).get(name, default) if path else default
    for index, word in enumerate(args):
        if word == f"--{name}" and index + 1 < len(args):
            value = args[index + 1]
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return str(value)


def check_bounds(config: Any) -> None:
    """Checks our own settings against what their fields allow: bounds of numbers, and words.

    Raises:
        InputError: One is out of its bounds, no finite number, or no word that is allowed.
    """
    if isinstance(config, TrainingArguments | ModelConfig):
        return
    for name, hint in get_type_hints(type(config), include_extras=True).items():
        value = getattr(config, name)
        known = _words(hint)
        if known and value not in known:
            raise InputError(f"--{name} is {value!r}; give one of {', '.join(map(str, known))}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise InputError(f"--{name} is {value}; give a finite number")
        for bound in getattr(hint, "__metadata__", ()):
            words = _outside(value, bound)
            if words:
                raise InputError(f"--{name} is {value}; give {words}")


def _words(hint: Any) -> tuple[Any, ...]:
    """The words that a field's type allows, None among them where it may be missing."""
    if get_origin(hint) is Annotated:
        return _words(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return get_args(hint)
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    words = tuple(word for part in parts for word in _words(part))
    return (*words, None) if words and type(None) in parts else words


def _outside(value: float, bound: Any) -> str:
    """What to give instead of a value that is outside a bound; empty where it is inside."""
    match bound:
        case Ge(least) if value < least:  # type: ignore[operator]
            return f"{least} or more"
        case Gt(least) if value <= least:  # type: ignore[operator]
            return f"more than {least}"
        case Le(most) if value > most:  # type: ignore[operator]
            return f"{most} or less"
        case Lt(most) if value >= most:  # type: ignore[operator]
            return f"less than {most}"
    return ""


def require_given(config: Any, *names: str) -> None:
    """Checks settings without a default.

    Raises:
        InputError: One of them is missing.
    """
    for name in names:
        if not getattr(config, name):
            raise InputError(f"--{name} is missing; give it, or a --config that has it")


def identity(*configs: Any) -> dict[str, Any]:
    """The settings that decide a stage's results, besides its inputs, by name.

    Of our own settings these are all that are not marked otherwise; of transformers' and TRL's,
    which are hundreds, those that differ from their defaults.
    """
    found: dict[str, Any] = {}
    for config in configs:
        if isinstance(config, TrainingArguments | ModelConfig):
            default = (
                type(config)(output_dir=config.output_dir, use_cpu=True)
                if isinstance(config, TrainingArguments)
                else ModelConfig()
            )
            names = {field.name for field in fields(config)}
            names -= _LIBRARIES_EXECUTION | _LIBRARIES_INPUTS
            found |= {
                field.name: getattr(config, field.name)
                for field in fields(config)
                if field.name in names
                and getattr(config, field.name) != getattr(default, field.name)
            }
        else:
            marks = _marks(config)
            found |= {
                name: getattr(config, name)
                for name, mark in marks.items()
                if mark in (None, FUNCTION)
            }
    return found


def inputs(*configs: Any) -> dict[str, str]:
    """The files, folders and names on the Hub that a stage reads, by their setting's name.

    Of a list each has a number from 1 on.
    """
    found: dict[str, str] = {}
    for config in configs:
        if isinstance(config, ModelConfig):
            found["model"] = resolve(config.model_name_or_path or "")
        elif not isinstance(config, TrainingArguments):
            for name, mark in _marks(config).items():
                value = getattr(config, name)
                if mark is INPUT and isinstance(value, list):
                    found |= {f"{name} {k}": resolve(one) for k, one in enumerate(value, 1)}
                elif mark is INPUT and value:
                    found[name] = resolve(value)
                elif mark is FUNCTION and value and function_file(value) != value:
                    found[name] = function_file(value)
    return found


def _marks(config: Any) -> dict[str, Mark | None]:
    """Each setting's mark, where it has one."""
    hints = get_type_hints(type(config), include_extras=True)
    return {
        field.name: next(
            (m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, Mark)), None
        )
        for field in fields(config)
    }


def _names(dataclasses: Sequence[type]) -> dict[str, str]:
    """Each setting's name by itself and by its other names."""
    names = {}
    for settings in dataclasses:
        for field in fields(settings):
            names[field.name] = field.name
            for alias in field.metadata.get("aliases", []):
                names[alias.removeprefix("--")] = field.name
    return names


def _is_one(value: Any) -> bool:
    return value is not None and not isinstance(value, list)


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
        config = yaml.safe_load(Path(shipped(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: must hold 'key: value' lines")
    return config


def _suggest(name: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else "--help lists all of them"
