"""PPO that samples by vLLM: what can be seen without a GPU, which new weights need to get there."""

import site
import subprocess

import pytest

from tests.conftest import ROOT

PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not PYTHON.exists(), reason="no vLLM here; 'make test' installs it"),
]

# vLLM's environment first, and what it lacks from this one
BOTH = """
import runpy, sys
sys.path += [sys.argv.pop(1)]
sys.path.insert(0, ".")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_dead_server_is_named(data, reward_model, tmp_path):
    [packages] = site.getsitepackages()
    done = subprocess.run(
        [
            *(PYTHON, "-c", BOTH, packages, "recipes/ppo.py"),
            *("--config", "recipes/configs/miniature/ppo.yaml", "--rewards", reward_model),
            *("--prompts", data / "prompts.jsonl", "--output_dir", tmp_path / "out", "--use_vllm"),
            *("--vllm_server_base_url", "http://localhost:9", "--vllm_server_timeout", "1"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: The vLLM server can't be reached at http://localhost:9")
    assert "start the server" in line
    assert not (tmp_path / "out" / "policy").exists()
