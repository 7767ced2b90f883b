# make demo | test | test-gpu | bench | clean
#
# Each target makes .venv with PYTHON, installs what it needs there, and leaves a stamp, so that the next run starts at once.
# PYTHON  the interpreter to make .venv with (3.10 or later)      make demo PYTHON=python3.12
# JOBS    processes for the tests                                 make test JOBS=8
# DEVICE  where test-gpu runs: cuda, or emulated by the CPU       make test-gpu DEVICE=emulated
# ARGS    more arguments for the demo, pytest or the benchmarks   make test ARGS="-k logsumexp"

PYTHON ?= python3
JOBS ?= 2
ARGS ?=
DEVICE ?= cuda
# Tests differ in length: processes with none left take from the others.
SHARED = -n $(JOBS) --dist worksteal
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
TORCH := torch==2.13.0

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test test-gpu bench clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py $(ARGS)

# pytest comes last: its summary is the last thing to read. Before it, stop at the first tool that finds something.
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(SHARED) $(ARGS)

# All tests, with tensors on an NVIDIA GPU: see tests/device.py; PYTHON has PyTorch with CUDA and the packages of pairfold[cuda,dev].
# Thousands of kernels run once each: processes would but wait for each other at the driver's cache, and their threads for processors.
test-gpu: export CUDA_CACHE_DISABLE := 1
test-gpu: export OMP_NUM_THREADS := 2
test-gpu: export OPENBLAS_NUM_THREADS := 2
test-gpu: export PAIRFOLD_NUM_THREADS := 2
test-gpu:
	PYTHONPATH=src PAIRFOLD_TEST_DEVICE=$(DEVICE) $(PYTHON) -m pytest $(SHARED) tests $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks cpu $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# --- environments ---------------------------------------------------------------------------------------------------------

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "error: '$(PYTHON)' was not found. Name a Python 3.10 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: Pairfold needs Python 3.10 or later, and $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $(PYTHON) comes without the venv module. On Debian or Ubuntu: apt-get install python3-venv. Or name another: make PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# PyTorch first and at one version, so that nothing installed later brings another build of it.
$(VENV)/.torch: $(VENV)/.made
	@echo "installing $(TORCH)"
	@$(PIP) $(TORCH)
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "installing pairfold[progress]"
	@$(PIP) -e '.[progress]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	@echo "installing pairfold[dev]"
	@$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.torch pyproject.toml
	@echo "installing pairfold[bench]"
	@$(PIP) -e '.[bench]'
	@touch $@
