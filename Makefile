VENV := .venv
PYTHON := $(VENV)/bin/python
export TOKENIZERS_PARALLELISM := false

.PHONY: demo test check clean

# The whole chain on the embedded miniature, in runs/demo.
demo: $(VENV)/ready
	$(PYTHON) recipes/pipeline.py --config recipes/configs/miniature.yaml

# Lint and all tests.
test: check
	$(PYTHON) -m pytest

check: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# A virtual environment with the exact versions of constraints.txt and this package.
$(VENV)/ready: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[deepspeed,dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
