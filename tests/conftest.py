import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.forked import ROOT, recipe

SHARED = ROOT.parent / "shared" / "data"

# tests run side by side (pytest-xdist): they, and what they start, share out the cores; what takes
# seconds to import is imported where it is used, since pytest-xdist's own process reads this too
CORES = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
os.environ["OMP_NUM_THREADS"] = str(CORES)
os.environ["HF_HUB_OFFLINE"] = "1"

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(
    [
        *(
            f"icm_rl.recipes.{name}"
            for name in (
                "icm",
                "responses",
                "reward",
                "ppo",
                "grpo",
                "pipeline",
                "experiment",
                "forecast",
                "plan",
                "spread",
            )
        ),
        *(f"icm_rl.eval.{name}" for name in ("rewardbench", "policy", "report")),
        *("icm_rl.engines.server", "deepspeed", "accelerate.commands.launch"),
    ]
)

LONGEST = [
    *("test_icm.py", "test_server.py", "test_pipeline.py", "test_distributed.py"),
    *("test_recipes.py", "test_wheel.py", "test_smollm2.py", "test_recipe.py", "test_model.py"),
    *("test_cluster.py", "test_gguf.py", "test_centered.py", "test_shards.py", "test_disk.py"),
]
"""The files that take longest, the longest first."""

_started: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first: a worker takes a whole file at a time."""
    for item in items:
        slow = {"reward_model", "smollm2"}  # a recipe makes the one, the other is converted
        if slow & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.process)
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(autouse=True)
def _processes_are_marked(request) -> Iterator[None]:
    """A test that starts a program says so, or ``make quick`` would wait for it."""
    _started.clear()
    yield
    marked = request.node.get_closest_marker("process")
    assert marked or not _started, f"mark it by pytest.mark.process: it starts {_started}"


def start(
    *args: object,
    stdout: Path | str = os.devnull,
    stderr: Path | str = os.devnull,
    environ: Mapping[str, str] | None = None,
) -> BaseProcess:
    """Starts a recipe as a user does, from the repository's root, in a process group of its own.

    The process is forked from one that has imported the recipes, which saves seconds each time.
    """
    words = list(map(str, args))
    _started.append(words[0])
    settings = {**os.environ, **(environ or {})}
    process = FORKSERVER.Process(target=recipe, args=(words, str(stdout), str(stderr), settings))
    process.start()
    return process


def launched(
    launch: Sequence[object], processes: int, *args: object, seconds: float = 600
) -> list[str]:
    """Runs a recipe in processes of ``accelerate launch``; what each of them said.

    What accelerate's launcher makes of its flags and its config is asked of itself; the processes
    are forked, and not started anew, which saves three imports of everything.
    """
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    words = [*map(str, launch), *map(str, args)]
    settings, config, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    if settings.use_deepspeed:
        settings.deepspeed_fields_from_accelerate_config = ",".join(config.deepspeed_config)
        _, environ = prepare_deepspeed_cmd_env(settings)
    else:
        environ = prepare_multi_gpu_env(settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{rank}.txt") for rank in range(processes)]
        running = [
            start(
                *(settings.training_script, *settings.training_script_args),
                stdout=file,
                stderr=file,
                environ=environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank, file in enumerate(files)
        ]
        end = time.monotonic() + seconds
        for process in running:
            process.join(max(0, end - time.monotonic()))
            if process.is_alive():
                kill(process)
        said = [file.read_text() for file in files]
    if any(process.exitcode for process in running):
        raise AssertionError(f"{words} failed:\n" + "\n".join(said))
    return said


def run(*args: object, check: bool = True) -> subprocess.CompletedProcess:
    """Runs a recipe to its end. A launcher (``-m accelerate.commands.launch``) is not forked."""
    if args[0] == "-m":
        words = [sys.executable, *map(str, args)]
        _started.append(words[1])
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    else:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("stdout.txt", "stderr.txt")]
            process = start(*args, stdout=files[0], stderr=files[1])
            process.join()
            said = [file.read_text() for file in files]
        done = subprocess.CompletedProcess(args, process.exitcode, *said)
    if check and done.returncode:
        raise AssertionError(f"{args} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def rows(path: Path) -> list[dict]:
    """The objects of a JSON-lines file."""
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def kill(process: BaseProcess) -> None:
    """Kills a process with all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.join()


def wait_until(appears: Callable[[], bool], process: BaseProcess) -> None:
    """Waits while the process runs."""
    while not appears():
        assert process.is_alive(), "it ended before it could be killed"
        time.sleep(0.01)


def kill_when(args: Sequence[object], appears: Callable[[], bool]) -> None:
    """Starts a recipe and kills it, with all that it started, as soon as ``appears()`` is true."""
    process = start(*args)
    wait_until(appears, process)
    kill(process)


def killed_often(args: Sequence[object], pools: Path, times: int) -> None:
    """Kills recipes/icm.py so many times at random moments of its searches; then lets it end."""
    rng = random.Random(0)

    def written() -> dict[Path, int]:
        return {file: file.stat().st_mtime_ns for file in pools.glob("*.json")}

    for _ in range(times):
        before = written()
        process = start("recipes/icm.py", *args)
        wait_until(lambda before=before: written() != before, process)
        time.sleep(rng.uniform(0, 0.2))
        kill(process)
    run("recipes/icm.py", *args)


@pytest.fixture(scope="session", autouse=True)
def _converted_models(tmp_path_factory) -> None:
    """Models in GGUF files are converted once for all workers of this run, and no longer kept."""
    temporary = tmp_path_factory.getbasetemp()
    shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
    os.environ["ICM_RL_CACHE"] = str(shared / "converted")


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The name of the real model; a test that needs it is skipped where it is not installed."""
    from icm_rl.errors import InputError
    from icm_rl.gguf import SMOLLM2, smollm2_file

    try:
        smollm2_file()
    except InputError as error:
        pytest.skip(str(error))
    return SMOLLM2


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """The miniature's data files."""
    from icm_rl.miniature.data import write_data

    folder = tmp_path_factory.mktemp("data")
    write_data(folder, 0)
    return folder


@pytest.fixture(scope="session")
def few(data, tmp_path_factory) -> Path:
    """A row of each subset of the miniature's benchmark."""
    from icm_rl.files import write_jsonl

    file = tmp_path_factory.mktemp("few") / "few.jsonl"
    write_jsonl(file, rows(data / "benchmark.jsonl")[::16])
    return file


@pytest.fixture(scope="session")
def tokenizer():
    from icm_rl.models import load_tokenizer

    return load_tokenizer("miniature")


@pytest.fixture(scope="session")
def model():
    from icm_rl.models import load_causal_lm

    return load_causal_lm("miniature", "float32")


@pytest.fixture(scope="session")
def engine(model, tokenizer):
    from icm_rl.engines import LocalEngine
    from icm_rl.tasks import TASKS

    return LocalEngine(model, tokenizer, list(TASKS["preferences"].verbalizers.values()))


@pytest.fixture(scope="session")
def preferences(data):
    from icm_rl.tasks import TASKS

    return TASKS["preferences"].load(data / "preferences_train.jsonl")


@pytest.fixture(scope="session")
def gold_preferences(data, tmp_path_factory) -> Path:
    """A few pairs in TRL's format, labeled by gold."""
    from icm_rl.files import write_jsonl
    from icm_rl.icm.writing import preference_rows
    from icm_rl.tasks import TASKS

    loaded = TASKS["preferences"].load(data / "preferences_train.jsonl", 48)
    file = tmp_path_factory.mktemp("gold") / "gold.jsonl"
    write_jsonl(file, preference_rows(loaded, loaded.gold))
    return file


@pytest.fixture(scope="session")
def reward_model(gold_preferences, tmp_path_factory) -> Path:
    """A reward model made by the recipe from a few gold pairs."""
    folder = tmp_path_factory.mktemp("reward")
    run(
        *("recipes/reward.py", "--config", "recipes/configs/miniature/reward.yaml"),
        *("--preferences", gold_preferences, "--output_dir", folder / "model"),
        *("--num_train_epochs", 1),
    )
    return folder / "model"


@pytest.fixture(autouse=True)
def _deterministic():
    import torch

    torch.manual_seed(0)
