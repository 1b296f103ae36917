# `make demo` and `make test` work on a fresh machine with Python 3.11 (any 3.10+ does for the demo).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One version for everybody, so that figures can be compared; others are allowed by pyproject.toml.
TORCH ?= torch==2.14.1 torchvision==0.29.1
# Test files run side by side, one thread each: torch's threads wait for each other and gain little here.
WORKERS ?= 2
FUZZ_SECONDS ?= 3600
export YOLO_OFFLINE ?= 1
export YOLO_AUTOINSTALL ?= 0

.PHONY: help demo test test-mmcv test-fast fuzz browser format static-checks mmcv docs clean

help:
	@echo "make demo           install the core and run the main job on generated scenes"
	@echo "make test           install everything the tests need and run them all, with ruff and mypy; lists what was skipped"
	@echo "make test-fast      unit tests only, in under 3 minutes: no adapters, contract or command line"
	@echo "make test-mmcv      the tests of the MMDetection host on compiled mmcv (compiles it once)"
	@echo "make browser        Chromium for the tests of report.html: root on Debian installs it, others are told how"
	@echo "make fuzz           damaged inputs and odd options for an hour (FUZZ_SECONDS=600 for less)"
	@echo "make format         ruff format and fixes"
	@echo "make static-checks  ruff and mypy"
	@echo "make mmcv           compile mmcv with its ops (replaces mmcv-lite)"
	@echo "make docs           build the documentation into site/, broken links are errors"
	@echo "make clean          remove the environment and everything that was built"
	@echo "WORKERS=4 TORCH='torch==... torchvision==...' PYTHON=python3.12 VENV=folder may be set."

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(PIP) install -q $(TORCH)
	$(PIP) install -q -e .
	@touch $@

# setuptools is named because mmengine needs pkg_resources, and pip resolves it out of order otherwise.
$(VENV)/.dev: pyproject.toml $(VENV)/.core
	$(PIP) install -q "setuptools<82" wheel
	$(PIP) install -q -e ".[all,dev]"
	@touch $@

$(VENV)/.docs: pyproject.toml $(VENV)/.core
	$(PIP) install -q -e ".[docs]"
	@touch $@

demo: $(VENV)/.core
	$(BIN)/dualres demo --out runs/demo

browser:
	@bash scripts/install_browser.sh

test: $(VENV)/.dev browser
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Compiled mmcv stands in a folder of its own, before mmcv-lite on the path: the environment stays as it is.
$(VENV)/mmcv/.built: scripts/build_mmcv.sh $(VENV)/.dev
	bash scripts/build_mmcv.sh $(BIN)/python $(VENV)/mmcv
	@touch $@

test-mmcv: $(VENV)/mmcv/.built
	PYTHONPATH=$(abspath $(VENV)/mmcv) DUALRES_TEST_COMPILED=1 OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(wildcard tests/adapters/mmdet/test_*.py)

test-fast: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--ignore=tests/adapters --ignore=tests/contract --ignore=tests/e2e

# What fails is written to tests/fuzz/corpus/, which `make test` runs.
fuzz: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python scripts/fuzz.py --seconds $(FUZZ_SECONDS)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

static-checks: $(VENV)/.dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

mmcv: $(VENV)/.dev
	bash scripts/build_mmcv.sh $(BIN)/python

clean:
	rm -rf $(VENV) build dist site *.egg-info
