"""Rows of a file or of a data set on the Hub, each of which knows where it stands."""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from datasets import load_dataset

from icm_rl.errors import InputError

_ENCODING = "utf-8-sig"
"""UTF-8, with or without the byte order mark that Windows writes."""

_HALF = "\\ud"
"""How JSON names half of a surrogate pair; it names whole ones so too."""

_TOO_DEEP = "its objects or lists are nested too deep to be read; flatten them"


def unusable(one: str, other: str) -> str | None:
    """Why two responses are no preference pair, if they are none."""
    if not one.strip() or not other.strip():
        return "with an empty response"
    return "with two identical responses" if one == other else None


def left_out_line(where: str, reasons: Collection[str]) -> str:
    """One line on the prompts that prefer nothing, for each of which there is a reason."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in Counter(reasons).items())
    return f"warning: {where}: left out {len(reasons):,} prompts that prefer nothing: {counts}"


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

    def texts(self, field: str) -> list[str]:
        """The field's value, which must be a list of texts, at least one.

        Raises:
            InputError: The field is missing or holds something else.
        """
        value = self[field]
        if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
            return value
        raise InputError(
            f"{self.where}: the field '{field}' must be a list of texts, not {value!r}"
        )

    def number(self, field: str) -> float:
        """The field's value, which must be a finite number.

        Raises:
            InputError: The field is missing or holds something else.
        """
        value = self[field]
        if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            return float(value)
        raise InputError(f"{self.where}: the field '{field}' must be a number, not {value!r}")

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

    def label(self, field: str, labels: Collection[bool | str]) -> bool | str | None:
        """The field's value as one of the labels; None where missing, null or empty.

        True and False may be written as 1 and 0, and as text.

        Raises:
            InputError: The value is outside the label set.
        """
        value = self.values.get(field)
        if value is None or value == "":
            return None
        by_name = {str(label).lower(): label for label in labels}
        if True in labels:
            by_name |= {"1": True, "0": False}
        whole = isinstance(value, float) and value.is_integer()
        name = str(int(value) if whole else value).lower()
        if name not in by_name:
            raise InputError(
                f"{self.where}: the field '{field}' is {value!r}, outside the label set "
                f"({', '.join(by_name)}); correct it or remove the field"
            )
        return by_name[name]


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("role", "content")
    )


@dataclass(frozen=True)
class Source:
    """Where data are: a local file, or a data set on the Hub.

    Attributes:
        path: A ``.json``, ``.jsonl``, ``.csv`` or ``.parquet`` file, or whatever else
            ``datasets.load_dataset`` takes: a name on the Hub or a directory.
        config: The configuration of a data set on the Hub.
        split: The split of a data set on the Hub.
        revision: The revision of a data set on the Hub.
        data_files: One file of a data set on the Hub that lists none.
    """

    path: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    data_files: str | None = None

    def __str__(self) -> str:
        return self.data_files or self.path

    def rows(self) -> Iterator[Row]:
        """All rows, in order.

        Raises:
            InputError: The source is missing, unreadable or empty, or a row is not an object.
        """
        read = {
            ".json": _json_rows,
            ".jsonl": _json_rows,
            ".csv": _csv_rows,
            ".parquet": _parquet_rows,
        }.get(Path(self.path).suffix)
        if read and not Path(self.path).is_file():
            raise InputError(f"{self.path}: no such file; check the path")
        empty = True
        try:
            for where, row in read(Path(self.path)) if read else self._hub_rows():
                if not isinstance(row, dict):
                    raise InputError(f"{where}: not a JSON object; each row must be one")
                empty = False
                yield Row(where, row)
        except (OSError, ValueError, csv.Error) as error:
            reason = str(error).strip().split("\n")[0]
            raise InputError(f"{self.path}: cannot be read ({reason})") from None
        if empty:
            raise InputError(f"{self.path}: the data set is empty; give at least one row")

    def _hub_rows(self) -> Iterator[tuple[str, Any]]:
        rows = load_dataset(
            self.path,
            self.config,
            split=self.split,
            revision=self.revision,
            data_files=self.data_files,
            streaming=True,
        )
        return _numbered(self.path, rows)


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a local file.

    Raises:
        InputError: The file is missing, unreadable, empty, or a row is not an object.
    """
    return list(Source(str(path)).rows())


def _json_rows(path: Path) -> Iterable[tuple[str, Any]]:
    with path.open(encoding=_ENCODING) as file:
        first = next((line.lstrip() for line in file if line.strip()), "")
    if not first.startswith("["):
        return _json_lines(path)
    text = path.read_text(encoding=_ENCODING)
    try:
        rows = list(_numbered(path, json.loads(text)))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: {_TOO_DEEP}") from None
    if _HALF in text.lower():
        for where, row in rows:
            _check_whole(where, row)
    return rows


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding=_ENCODING) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{where}: not JSON ({error.msg}); each line must be one object"
                ) from None
            except RecursionError:
                raise InputError(f"{where}: {_TOO_DEEP}") from None
            if _HALF in line.lower():
                _check_whole(where, row)
            yield where, row


def _check_whole(where: str, row: Any) -> None:
    """Looks for half a character, which JSON can name and no file and no tokenizer can hold.

    Raises:
        InputError: There is one.
    """
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("unicode_escape").decode()
        raise InputError(
            f"{where}: holds {half}, half of a surrogate pair and no character; remove it"
        ) from None


def _csv_rows(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding=_ENCODING, newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{path}: two columns are named '{name}'; rename one of them")
        for where, row in _numbered(path, reader):
            if None in row or None in row.values():
                raise InputError(f"{where}: not as many fields as the header has columns")
            yield where, row


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    return _numbered(
        path, load_dataset("parquet", data_files=str(path), split="train", streaming=True)
    )


def _numbered(path: str | Path, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(rows, 1):
        yield f"{path}, row {number}", row
