"""Reading with line numbers, writing whole files, and the identity of a stage's inputs."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icm_rl.errors import InputError

_WHOLE_FILE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Row:
    """One row of a data file and the words that say where it stands."""

    where: str
    values: Mapping[str, Any]

    def __getitem__(self, field: str) -> Any:
        """The field's value.

        Raises:
            InputError: The row has no such field.
        """
        if field not in self.values:
            known = ", ".join(self.values) or "none"
            raise InputError(f"{self.where}: the field '{field}' is missing (fields: {known})")
        return self.values[field]

    def text(self, field: str) -> str:
        """The field's value, which must be text or a number.

        Raises:
            InputError: The field is missing or holds something else.
        """
        value = self[field]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{self.where}: the field '{field}' must be text, not {value!r}")
        return str(value)

    def messages(self, field: str, role: str) -> list[dict[str, str]]:
        """The field's value as chat messages; text is one message of the given role.

        Raises:
            InputError: The field is missing or holds something else.
        """
        value = self[field]
        if isinstance(value, str):
            return [{"role": role, "content": value}]
        if isinstance(value, list) and value and all(map(_is_message, value)):
            return value
        raise InputError(
            f"{self.where}: the field '{field}' must be text or a list of messages, each with "
            "role and content"
        )

    def id(self, index: int) -> str:
        """The row's ``id``, or its number in the file, counted from 0, where it has none."""
        return self.text("id") if "id" in self.values else str(index)

    def label(self, field: str) -> bool | None:
        """The field's value as a label (true, false, 1, 0); None where missing or null.

        Raises:
            InputError: The value is outside the label set.
        """
        value = self.values.get(field)
        if value is None:
            return None
        if value not in (0, 1) or isinstance(value, str):
            raise InputError(
                f"{self.where}: the field '{field}' is {value!r}, outside the label set "
                "(true, false, 1, 0); correct it or remove the field"
            )
        return bool(value)


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("role", "content")
    )


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a JSON array or of a JSON-lines file.

    Raises:
        InputError: The file is missing, unreadable, empty, or a row is not a JSON object.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if content.lstrip().startswith("["):
        try:
            values = [(f"{path}, row {i}", row) for i, row in enumerate(json.loads(content), 1)]
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    else:
        values = list(_json_lines(path, content))
    for where, row in values:
        if not isinstance(row, dict):
            raise InputError(f"{where}: not a JSON object; each row must be one")
    if not values:
        raise InputError(f"{path}: the data set is empty; give at least one row")
    return [Row(where, row) for where, row in values]


def _json_lines(path: Path, content: str) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: not JSON ({error.msg}); each line must be one object"
                ) from None


def write_text(path: str | Path, text: str) -> None:
    """Writes the file under a temporary name and renames it, so that it is whole or not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


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


def fingerprint(path: str | Path) -> str:
    """A hash of a file or of a model's directory.

    A file of up to 32 MiB counts by its content, a larger one (a shard of weights) by its size.
    A path that is neither (a name on the Hub) stands for itself.
    """
    path = Path(path)
    if not path.exists():
        return str(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.relative_to(path)} {size}".encode())
            if size <= _WHOLE_FILE_BYTES:
                digest.update(file.read_bytes())
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
    folder: str | Path, settings: Mapping[str, Any], inputs: Mapping[str, str | Path]
) -> Stage:
    """Opens a stage's output folder, to begin it or to continue it.

    Args:
        folder: The output folder; made where it is missing.
        settings: What decides the stage's results, as plain JSON values.
        inputs: The files and model directories that the stage reads, by their setting's name.

    Raises:
        InputError: The folder holds files of something else, or of other settings or inputs.
    """
    folder = Path(folder)
    identity = {
        "settings": json.loads(json.dumps(settings, default=str)),
        "inputs": {name: fingerprint(path) for name, path in inputs.items()},
    }
    record = folder / "settings.json"
    if not record.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(f"{folder}: the output folder is not empty; name another folder")
        write_json(record, identity)
        return Stage(folder)
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
