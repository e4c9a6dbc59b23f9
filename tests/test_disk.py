"""A disk that is full, or that may not be written to: one line, and the run goes on later."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from icm_rl.errors import InputError
from icm_rl.files import write_text
from icm_rl.runner import run as run_main
from tests.conftest import rows, run

ICM = ("recipes/icm.py", "--config", "recipes/configs/miniature/icm.yaml")
ICM = (*ICM, "--limit", 10, "--pool_size", 10, "--iterations_per_example", 1, "--processes", 1)


def mounted(folder: Path, *options: str) -> subprocess.CompletedProcess:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of 48 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = mounted(folder, "size=48k")
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.process
def test_a_run_goes_on_when_a_full_disk_has_room_again(data, small_disk, tmp_path):
    flags = ("--data", data / "preferences_train.jsonl")
    command = (*ICM, *flags, "--output_dir", small_disk / "out")
    refused = run(*command, check=False)
    assert refused.returncode == 2, refused.stderr
    line = refused.stderr.strip().splitlines()[-1]
    assert line.startswith(f"error: {small_disk}/out/"), line
    assert line.endswith(
        "No space left on device; mend that and run the same command again, which goes on"
    )
    assert not list(small_disk.rglob(".*.tmp")), "what was half written takes room"
    assert mounted(small_disk, "remount", "size=8m").returncode == 0
    run(*command)
    run(*ICM, *flags, "--output_dir", tmp_path / "whole")
    found, whole = (
        rows(folder / "labels.jsonl") for folder in (small_disk / "out", tmp_path / "whole")
    )
    assert found == whole


def raising(error: Exception):
    def main() -> None:
        raise RuntimeError("while saving") from error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(30, "", "out/labels.jsonl"), "out/labels.jsonl: Read-only file system"),
        (OSError(13, "", "data.jsonl"), "data.jsonl: Permission denied"),
        (RuntimeError("PytorchStreamWriter: file write failed"), "file write failed"),
        (ValueError("I/O error: No space left on device (os error 28)"), "No space left on"),
        (InputError("x: wrong"), None),
        (OSError(2, "", "gone"), None),
    ],
)
def test_what_a_disk_refuses_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit if line else RuntimeError) as ended:
        run_main(raising(error))
    if line:
        assert ended.value.code == 2
        assert line in capsys.readouterr().err


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "x.txt", "\ud800")
    assert not list(tmp_path.iterdir())
