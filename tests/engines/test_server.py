"""The server engine against a real ``vllm serve`` of the miniature, on the CPU."""

import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from icm_rl.engines.base import Request
from icm_rl.engines.server import ServerConfig, ServerEngine, served_cache
from icm_rl.errors import InputError
from icm_rl.generation.answers import AnswersConfig, answer_prompts
from icm_rl.icm.hyperparameters import SearchConfig
from icm_rl.icm.objective import Scorer
from icm_rl.icm.search import search
from icm_rl.models import resolve
from icm_rl.tasks import TASKS
from tests.conftest import ROOT, kill_when, rows, run, start, wait_until
from tests.proxy import Proxy, changed, cut, gzipped, half, hang, says, status, torn

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM here; 'make test' installs it"),
]

TASK = TASKS["preferences"]
LABELS = list(TASK.verbalizers.values())


class Server:
    """A ``vllm serve`` of the miniature that can be killed and started again."""

    def __init__(self, log: Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        # what 'vllm serve' starts; the CPU package lacks the metadata that the command reads
        flags = ("-m", "vllm.entrypoints.openai.api_server", "--model", resolve("miniature"))
        flags += ("--served-model-name", "miniature", "--port", str(self.port))
        flags += ("--dtype", "float32", "--enforce-eager", "--enable-prefix-caching")
        flags += ("--block-size", "32", "--enable-lora", "--max-lora-rank", "8")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [PYTHON, *flags],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ
                | {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
                | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
            )
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                return self.get("/health")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        raise AssertionError(f"vLLM did not start: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as page:
            return page.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("vllm") / "log")
    server.start()
    yield server
    server.kill()


def connected(server: Server, tokenizer, **settings) -> ServerEngine:
    return ServerEngine(ServerConfig(server.url, **settings), tokenizer, LABELS, 2048)


def written_labels(folder: Path) -> list[bool]:
    return [row["label"] for row in rows(folder / "labels.jsonl")]


@pytest.mark.parametrize("kind", ["vllm", "openai"])
def test_log_probs_equal_the_local_engines(server, preferences, engine, tokenizer, kind):
    examples = preferences.examples[:12]
    labels = {e.id: preferences.gold[e.id] for e in examples}
    remote = connected(server, tokenizer, kind=kind)
    assert remote.context_length == 2048
    scores = [
        scorer.score(labels, scorer.arranged(list(labels)[:9]).moved_last(list(labels)[9:]))
        for scorer in (Scorer(examples, TASK, engine), Scorer(examples, TASK, remote))
    ]
    for id, log_probs in scores[0].log_probs.items():
        assert scores[1].log_probs[id] == pytest.approx(log_probs, abs=1e-3)
    assert remote.missing_labels == 0


def test_a_search_gives_the_same_labels(server, preferences, engine, tokenizer):
    found = [
        search(
            Scorer(preferences.examples[:12], TASK, of, alpha=30), SearchConfig(), random.Random(4)
        )
        for of in (engine, connected(server, tokenizer))
    ]
    assert found[0].labels == found[1].labels
    assert [r["proposal"] for r in found[0].history] == [r["proposal"] for r in found[1].history]


def test_what_a_search_computes_is_what_the_server_counts(server, preferences, tokenizer):
    """By the tree at most half of what the fixed order takes, and at most 1.3 times the plan."""
    examples, config = preferences.examples[:48], SearchConfig(sweeps=1, iterations_per_example=0.1)
    counted = {}
    for order in ("tree", "fixed"):
        remote = connected(server, tokenizer)
        before = served_cache(server.url).computed
        search(Scorer(examples, TASK, remote, order=order), config, random.Random(1))
        counted[order] = served_cache(server.url).computed - before
        assert counted[order] < 1.3 * remote.computed_tokens  # it keeps more than is asked
    assert counted["tree"] < counted["fixed"] / 2


def test_what_a_server_cannot_keep_is_not_asked_of_it(server, tokenizer, capsys):
    """Its gibibyte holds the keys and values of 8 layers, 192 wide, in float32."""
    held = 2**30 // (2 * 8 * 192 * 4)
    found = served_cache(server.url)
    assert found.block == 32 and held - 1024 < found.tokens <= held
    connected(server, tokenizer)
    assert f"keeps {found.tokens:,} tokens of contexts, not the 200,000" in capsys.readouterr().err


def test_a_search_and_its_server_killed_lose_nothing(server, data, tmp_path, monkeypatch):
    """The search is killed twice and continued; then the server dies while it is asked."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    flags = ("--task", "preferences", "--data", data / "preferences_train.jsonl", "--limit", 6)
    flags = (*flags, "--baselines", "false", "--dtype", "float32")
    run("recipes/icm.py", *flags, "--output_dir", tmp_path / "local")
    out = tmp_path / "out"
    command = ("recipes/icm.py", *flags, "--server", server.url, "--output_dir", out)
    saved = out / "pools" / "00000-0.unfinished.json"

    def saved_at() -> int:
        return saved.stat().st_mtime_ns if saved.exists() else 0

    for _ in range(2):
        before = saved_at()
        kill_when(command, lambda before=before: saved_at() != before)
    before, process = saved_at(), start(*command)
    wait_until(lambda: saved_at() != before, process)
    server.kill()
    server.start()
    process.join()
    assert process.exitcode == 0
    assert written_labels(out) == written_labels(tmp_path / "local")
    files = [file for file in out.rglob("*") if file.is_file()]
    assert files and all(b"sk-secret" not in file.read_bytes() for file in files)


@pytest.mark.parametrize("iterative", [False, True])
def test_what_has_learned_by_adapters_labels_on_the_server_as_here(
    server, data, tmp_path, iterative
):
    flags = ("--task", "preferences", "--data", data / "preferences_train.jsonl", "--limit", 16)
    flags += ("--baselines", "false", "--dtype", "float32", "--lora_r", 4, "--learning_rate", 3e-3)
    search = ("--iterative", "--pool_size", 16, "--iterations_per_example", 1)
    folds = ("--method", "folds", "--folds", 2, "--rounds", 1, "--initial_labels", "bootstrap")
    flags += search if iterative else folds
    run("recipes/icm.py", *flags, "--output_dir", tmp_path / "local")
    served = ("--server", server.url, "--processes", 2, "--output_dir", tmp_path / "remote")
    run("recipes/icm.py", *flags, *served)
    local, remote = (rows(tmp_path / name / "labels.jsonl") for name in ("local", "remote"))
    for one, other in zip(local, remote, strict=True):
        assert one["label"] == other["label"]
        assert one["log_odds"] == pytest.approx(other["log_odds"], abs=2e-2)


def test_a_judge_on_the_server_gives_the_local_log_odds(server, few, tmp_path):
    flags = ("eval/rewardbench.py", "--judge", "miniature", "--dtype", "float32")
    flags += ("--benchmark", few, "--output_dir")
    run(*flags, tmp_path / "local")
    run(*flags, tmp_path / "remote", "--server", server.url)
    local, remote = (
        load_dataset("parquet", data_files=str(tmp_path / name / "scores.parquet"))["train"]
        for name in ("local", "remote")
    )
    for name in ("chosen", "rejected"):
        expected = [log_odds for [log_odds] in local[name]]
        assert [log_odds for [log_odds] in remote[name]] == pytest.approx(expected, abs=2e-3)


def test_a_policy_behind_the_server_answers_as_the_local_one(server, few, tmp_path):
    prompts = [row["prompt"] for row in rows(few)]
    asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
    config = AnswersConfig(response_length=16, dtype="float32", answers_dir=str(tmp_path))
    local, remote = (
        answer_prompts(name, asked, config) for name in ("miniature", f"miniature@{server.url}")
    )
    assert remote == local


def test_labels_outside_the_top_are_read_or_counted_and_too_many_are_an_error(
    server, preferences, engine, tokenizer
):
    examples = preferences.examples[:24]
    labels = {e.id: preferences.gold[e.id] for e in examples}
    exact = Scorer(examples, TASK, connected(server, tokenizer, top_logprobs=1))
    found = exact.score(labels, exact.arranged(labels))
    expected = Scorer(examples, TASK, engine).score(labels, exact.arranged(labels))
    for id, log_probs in expected.log_probs.items():
        assert found.log_probs[id] == pytest.approx(log_probs, abs=1e-3)
    assert exact.engine.missing_labels == 0
    remote = connected(server, tokenizer, kind="openai", top_logprobs=1)
    scorer = Scorer(examples, TASK, remote)
    with pytest.raises(InputError, match="1 most likely tokens; raise --top_logprobs"):
        for _ in range(20):
            remote.forget()
            scorer.remember([])
            scorer.score(labels, scorer.arranged(labels))
    assert remote.missing_labels > 10


def test_a_server_that_is_not_there_is_told_in_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    done = run(
        *("recipes/icm.py", "--task", "preferences", "--data", data / "preferences_train.jsonl"),
        *("--server", "http://127.0.0.1:9/v1", "--request_retries", 1),
        *("--output_dir", tmp_path / "out"),
        check=False,
    )
    assert done.returncode == 2
    assert "--server http://127.0.0.1:9/v1: cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr and "sk-secret" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_served(server, tokenizer):
    with pytest.raises(InputError, match=r"'other' is not served by .*; it serves miniature"):
        connected(server, tokenizer, model="other")


TRANSIENT = {
    "429": status(429, Retry_After="0"),
    "500": status(500),
    "502 with a page": status(502, b"<html>Bad Gateway</html>"),
    "503": status(503),
    "a hang": hang,
    "a cut connection": cut,
    "half an answer": half,
    "an answer that cannot be unpacked": gzipped,
}


def top(answer: dict[str, Any]) -> dict[str, float]:
    return answer["choices"][0]["logprobs"]["top_logprobs"][0]


LASTING = {
    "500": (status(500), r"a request failed after 2 retries \(HTTP 500"),
    "400": (status(400), r"a request failed after 2 retries \(HTTP 400"),
    "401": (status(401), r"a request failed after 2 retries \(HTTP 401"),
    "404": (status(404, b"<html>"), r"a request failed after 2 retries \(HTTP 404"),
    "a redirect in a circle": (status(307, Location="completions"), "a request failed after"),
    "a hang": (hang, r"a request failed after 2 retries \(Request timed out"),
    "a page": (says(b"<html>Sign in</html>", "text/html"), "its answer is no completion"),
    "nothing": (says(b""), "its answer is no JSON"),
    "no text": (says(b"\xff\xfe{"), "its answer is no JSON"),
    "half an answer as a whole one": (torn, "its answer is no JSON"),
    "null": (says(b"null"), "its answer is no completion"),
    "a list": (says(b"[1, 2]"), "its answer is no completion"),
    "another object": (says(b'{"ok": true}'), "its answer is no completion"),
    "no choices": (changed(lambda a: a.update(choices=[])), "its answer is no completion"),
    "no log-probabilities": (
        changed(lambda a: a["choices"][0].update(logprobs=None)),
        "returns no log-probabilities; labels need them",
    ),
    "no tokens": (changed(lambda a: top(a).clear()), "returns no log-probabilities"),
    "no number": (
        changed(lambda a: top(a).update({"token_id:5": float("nan")})),
        "gives the token 'token_id:5' nan as its log-probability",
    ),
    "a probability": (
        changed(lambda a: top(a).update({"token_id:5": 0.4})),
        "gives the token 'token_id:5' 0.4 as its log-probability",
    ),
    "a word as a number": (
        changed(lambda a: top(a).update({"token_id:5": "low"})),
        "gives the token 'token_id:5' 'low' as its log-probability",
    ),
    "another model": (
        changed(lambda a: a.update(model="gpt-4")),
        "'miniature' was asked, and 'gpt-4' answers",
    ),
    "other token ids": (
        changed(lambda a: a["choices"][0]["logprobs"].update(top_logprobs=[{"token_id:1": -1.0}])),
        "labels were not among the 20 most likely tokens",
    ),
}


def through(proxy: Proxy, tokenizer) -> ServerEngine:
    return connected(proxy, tokenizer, timeout=2.0, retries=2)


def short_requests(count: int) -> list[Request]:
    return [Request((), f"Claim {number}: it is so.\nThat is") for number in range(count)]


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_a_server_fails_at_once_it_is_asked_again(server, tokenizer, kind):
    asked = short_requests(4)
    expected = connected(server, tokenizer).label_log_probs(asked)
    with Proxy(server.port, "/v1/completions", TRANSIENT[kind], tries=1) as proxy:
        assert through(proxy, tokenizer).label_log_probs(asked) == expected
        assert sorted(proxy.asked.values()) == [2] * 4


@pytest.mark.parametrize("kind", LASTING)
def test_what_a_server_never_answers_right_is_told_in_one_line(server, tokenizer, kind):
    spoil, line = LASTING[kind]
    enough = 100 if kind == "other token ids" else 4  # a few missing labels are allowed
    with Proxy(server.port, "/v1/completions", spoil, tries=None) as proxy:
        with pytest.raises(InputError, match=line) as told:
            through(proxy, tokenizer).label_log_probs(short_requests(enough))
        assert kind == "other token ids" or str(told.value).startswith(f"--server {proxy.url}: ")
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("body", [b"<html>", b"", b"null", b"{}", b'{"data": 3}'])
def test_a_server_that_lists_no_models_is_told(server, tokenizer, body):
    proxy = Proxy(server.port, "/v1/models", says(body), tries=None)
    with proxy, pytest.raises(InputError, match="does not list its models"):
        through(proxy, tokenizer)


@pytest.mark.parametrize(
    ("body", "line"), [(b"{", "its answer is no JSON"), (b"[]", "its answer is no completion")]
)
def test_a_policy_whose_server_answers_nonsense_is_told(server, few, tmp_path, body, line):
    with Proxy(server.port, "/v1/chat/completions", says(body), tries=None) as proxy:
        prompts = [[{"role": "user", "content": row["prompt"]}] for row in rows(few)[:2]]
        config = AnswersConfig(answers_dir=str(tmp_path))
        with pytest.raises(InputError, match=f"miniature@{proxy.url}: {line}"):
            answer_prompts(f"miniature@{proxy.url}", prompts, config)
