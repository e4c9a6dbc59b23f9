"""The package as a wheel, in an environment without the checkout, from an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from icm_rl.files import write_jsonl
from tests.conftest import ROOT, rows

pytestmark = pytest.mark.process


def command(*words: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, capture_output=True, text=True, check=False, env=environ
    )
    if check and done.returncode:
        raise AssertionError(f"{words} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> tuple[Path, Path]:
    """The environment's folder of programs, and the wheel.

    The environment is empty but for the wheel; of the tests' own it sees the installed
    dependencies, and not this package.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("icm_rl", "recipes", "eval"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    command(sys.executable, *build, cwd=source)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    [site] = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"),
        *("--no-deps", "--force-reinstall", "--ignore-installed", wheel),
        cwd=folder,
    )
    return folder / "env" / "bin", wheel


def test_the_wheel_holds_what_it_needs(installed):
    names = set(zipfile.ZipFile(installed[1]).namelist())
    assert "icm_rl/recipes/configs/miniature/claim.jinja" in names
    assert "icm_rl/eval/metrics/win_rate/README.md" in names
    assert "icm_rl/miniature/model/model.safetensors" in names
    assert "icm_rl/report/templates/page.js" in names and "icm_rl/py.typed" in names
    assert not any(name.endswith((".png", ".svg")) or "tests/" in name for name in names)


def test_the_chain_runs_from_an_empty_folder(installed, data, few, tmp_path):
    programs, _ = installed
    where = "import icm_rl; print(icm_rl.__file__)"
    found = command(programs / "python", "-c", where, cwd=tmp_path).stdout
    assert Path(found.strip()).is_relative_to(programs.parent)
    listed = command(programs / "icm-rl", "configs", cwd=tmp_path).stdout.splitlines()
    assert "recipes/configs/miniature.yaml" in listed
    command(programs / "icm-rl", "configs", "--copy", cwd=tmp_path)
    folder = tmp_path / "recipes" / "configs" / "miniature"
    for name, change in (  # a chain of a few pairs: the copies are edited, as a user would
        ("icm.yaml", ("iterations_per_example: 1", "iterations_per_example: 1\nlimit: 8")),
        ("icm.yaml", ("baselines: true", "baselines: false")),
        ("reward.yaml", ("num_train_epochs: 3", "num_train_epochs: 1")),
        (
            "ppo.yaml",
            (
                "total_episodes: 8192\nper_device_train_batch_size: 64",
                "total_episodes: 32\nper_device_train_batch_size: 16",
            ),
        ),
        ("policy.yaml", ("response_length: 32", "response_length: 8")),
    ):
        text = (folder / name).read_text()
        assert change[0] in text
        (folder / name).write_text(text.replace(*change))
    write_jsonl(tmp_path / "pairs.jsonl", rows(data / "preferences_train.jsonl")[:24])
    flags = ("demo", "--benchmark", few, "--data", "pairs.jsonl")
    done = command(programs / "icm-rl", *flags, cwd=tmp_path)
    assert "report: runs/demo/report.html" in done.stdout
    report = json.loads((tmp_path / "runs" / "demo" / "report.json").read_text())
    assert report["icm"]["examples"] == 16


def test_the_command_explains_itself(installed, tmp_path):
    programs, _ = installed
    told = command(programs / "icm-rl", "--help", cwd=tmp_path).stdout
    assert "ppo" in told and "configs" in told
    wrong = command(programs / "icm-rl", "pppo", cwd=tmp_path, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: unknown command 'pppo'; 'icm-rl --help' lists all\n"
    wrong = command(programs / "icm-rl", "icm", "--alpha", "-1", cwd=tmp_path, check=False)
    assert wrong.returncode == 2 and wrong.stderr == "error: --alpha is -1.0; give 0 or more\n"
