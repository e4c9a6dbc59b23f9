"""Writing whole files, and the identity of a stage's inputs."""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import pyarrow
from pyarrow import parquet
from safetensors import SafetensorError, safe_open

from icm_rl.errors import InputError

_WHOLE_FILE_BYTES = 32 * 2**20


def write_text(path: str | Path, text: str) -> None:
    """Writes the file under a temporary name and renames it, so that it is whole or not there."""
    with _renamed(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _renamed(path: Path) -> Iterator[Path]:
    """A temporary name for a file, which gets its own once it is whole and is gone otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    temporary.replace(path)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, as the rows come, whole or not at all."""
    with _renamed(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_parquet(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same fields as a Parquet file, whole or not at all."""
    with _renamed(Path(path)) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows), temporary)


def append_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds one JSON object a line to a file; a kill meanwhile leaves a broken last line."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_appended(path: str | Path) -> list[dict[str, Any]]:
    """What ``append_jsonl`` added, without a last line that a kill broke.

    Raises:
        InputError: Another line is damaged.
    """
    rows = []
    for number, line in enumerate(Path(path).read_bytes().split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise InputError(
                f"{path}, line {number}: damaged; remove the line, and the run goes on without it"
            ) from None
    return rows


def drop_after(path: str | Path, update: int) -> list[dict[str, Any]]:
    """Drops the rows of a later ``update``, and a broken last line, of what was appended.

    Returns:
        The rows that are left.
    """
    path = Path(path)
    if not path.exists():
        return []
    rows = [row for row in read_appended(path) if row["update"] <= update]
    write_jsonl(path, rows)
    return rows


_OF_TORCH = (".bin", ".pkl", ".pt", ".pth")


def check_whole(folder: Path) -> None:
    """Looks whether the files of a checkpoint or a model are whole.

    Raises:
        InputError: One was cut.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix in _OF_TORCH and not is_zipfile(file):
                raise ValueError
        except (SafetensorError, ValueError):
            raise InputError(
                f"{file}: damaged; remove the folder {folder}, and what it held is made again"
            ) from None


def complete_checkpoints(folder: Path, last_file: str) -> list[Path]:
    """The folders ``checkpoint-N`` that hold the last file of one, oldest first."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{last_file}")]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def read_json(path: str | Path) -> Any:
    """Reads a JSON file that this package wrote.

    Raises:
        InputError: The file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, byte {error.start}: not UTF-8; the file is damaged") from None


def fingerprint(path: str | Path, whole: bool = False) -> str:
    """A hash of a file or of a model's directory.

    A path that is neither (a name on the Hub) stands for itself.

    Args:
        path: The file or directory.
        whole: Whether files of more than 32 MiB (shards of weights) count by their content too, not
            by their size alone; reading them takes time.
    """
    path = Path(path)
    if not path.exists():
        return str(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.relative_to(path)} {size}".encode())
            if whole or size <= _WHOLE_FILE_BYTES:
                with file.open("rb") as content:
                    while block := content.read(2**20):
                        digest.update(block)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Stage:
    """A stage's output folder, bound to the settings and inputs that it was made with."""

    folder: Path

    @property
    def metrics(self) -> Path:
        """The file that a stage writes last: where it is, the stage is complete."""
        return self.folder / "metrics.json"

    @property
    def complete(self) -> bool:
        return self.metrics.exists()


def open_stage(
    folder: str | Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str | Path],
    shared: bool = False,
) -> Stage:
    """Opens a stage's output folder, to begin it or to continue it.

    Args:
        folder: The output folder; made where it is missing.
        settings: What decides the stage's results, as plain JSON values.
        inputs: The files and model directories that the stage reads, by their setting's name.
        shared: Other runs that share may be at work in it too: each has its part of the work.

    Raises:
        InputError: The folder holds files of something else, or of other settings or inputs, or
            another run is at work in it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder, shared)
    identity = {
        "settings": json.loads(json.dumps(settings, default=str)),
        "inputs": {name: fingerprint(path) for name, path in inputs.items()},
    }
    record = folder / "settings.json"
    if shared:
        _wait_for(record, folder)
    results = any(path != record for path in folder.iterdir())
    if not results:
        write_json(record, identity)
        return Stage(folder)
    if not record.exists():
        raise InputError(f"{folder}: the output folder is not empty; name another folder")
    known = read_json(record)
    for part in ("inputs", "settings"):
        for name in sorted(known[part].keys() | identity[part].keys()):
            old, new = known[part].get(name), identity[part].get(name)
            if old != new:
                what = f"another {name}" if part == "inputs" else f"{name} = {old} (now {new})"
                raise InputError(
                    f"{folder}: holds the results of a run with {what}; "
                    "name another folder or remove this one"
                )
    return Stage(folder)


def _wait_for(record: Path, folder: Path) -> None:
    """Gives a run that shares the folder time to write its record, where it has just begun."""
    end = time.monotonic() + _PATIENCE
    while not record.exists() and any(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.1)


_LOCKED: dict[Path, int] = {}
_PATIENCE = 5.0
"""Seconds for a run that was killed to let go of its folder."""


def _lock(folder: Path, shared: bool) -> None:
    """Keeps other runs out of a folder as long as this process lives; of several the first does.

    Runs that share keep out those that do not.

    Raises:
        InputError: Another run is at work in it.
    """
    path, end = folder.resolve(), time.monotonic() + _PATIENCE
    if path in _LOCKED or os.environ.get("RANK", "0") != "0":
        return
    descriptor = os.open(path, os.O_RDONLY)
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(descriptor)
                raise InputError(
                    f"{folder}: another run is at work here; wait for its end or name another "
                    "folder"
                ) from None
            time.sleep(0.1)
        else:
            _LOCKED[path] = descriptor
            return
