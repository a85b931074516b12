# Two commands are all that a new machine needs (Python 3.11+, git, make):
#   make demo    the whole instrument, simulated, from laser to grating period
#   make test    every test
# Each makes or refreshes .venv by itself; the second time that takes no time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# `compat` puts this folder itself on the path, so that editors and type checkers find the packages too.
EDITABLE := --config-settings editable_mode=compat --editable

.PHONY: demo test test-faults lint bench docs clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-all
	LUNCHBOX_DATA_ROOT=data $(BIN)/lunchbox demo $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

# The matrix of faults against the laser, each case 20 times (FAULT_TRIALS=..): some minutes.
test-faults: $(VENV)/.installed-test
	FAULT_TRIALS=$${FAULT_TRIALS:-20} $(BIN)/python -m pytest tests/faults $(ARGS)

lint: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

clean:
	rm -rf $(VENV) build docs/_build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "LunchBox needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) $(EDITABLE) '.[$*]'
	@touch $@
