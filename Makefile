# `make help` lists the commands.
VENV := .venv
PY := $(VENV)/bin/python
# The Python that the environment is made from: make PYTHON=python3.12
PYTHON ?= python3
# How the core is built: `release`, or `dist`, which takes longer and is what wheels hold.
PROFILE ?= release
# maturin builds into the environment named here; it refuses to choose between this one and conda's.
MATURIN := env -u CONDA_PREFIX VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(VENV)/bin/maturin

.DEFAULT_GOAL := help
.PHONY: help setup build train predict test test-rust test-python test-isa lint format bench wheel clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Firesteel needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --group dev
	touch $@

setup: $(VENV)/ready ## create the virtual environment

build: setup ## build the core into the virtual environment
	$(MATURIN) develop --profile $(PROFILE)

train: build ## train a network on the handwritten digits
	$(PY) examples/train_digits.py

predict: build ## read some digits with the trained network
	$(PY) examples/predict_digits.py

test: test-rust test-python test-isa lint ## run all tests and the linters

test-rust: ## run the tests of the Rust core
	cargo test --package firesteel

test-python: build ## run the tests of the Python package
	$(PY) -m pytest

# Values and gradients once more on the kernels of other processors; the Rust tests of matrix products do likewise.
test-isa: build ## run the operations without the vector instructions of this processor
	FIRESTEEL_ISA=baseline $(PY) -m pytest tests/test_ops.py tests/test_op_gradients.py \
		-k "(test_value or test_gradient) and (contiguous or strided)"

lint: build ## check formatting, types, clippy and ruff
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	$(VENV)/bin/ruff check python tests examples benchmarks docs/pictures
	$(VENV)/bin/ruff format --check python tests examples benchmarks docs/pictures
	$(PY) -m mypy
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tests/stubtest_allowlist.txt firesteel._core

format: setup ## format everything
	cargo fmt
	$(VENV)/bin/ruff format python tests examples benchmarks docs/pictures
	$(VENV)/bin/ruff check --fix python tests examples benchmarks docs/pictures

bench: PROFILE = dist
bench: build ## race Firesteel against PyTorch, where that is installed; in short: make bench ARGS=--quick
	cargo bench --package firesteel
	$(PY) -m pytest benchmarks --benchmark-only --json runs/benchmark.json $(ARGS)

wheel: setup ## build the wheel for distribution into dist/
	$(MATURIN) build --profile dist --strip --compression-level 9 --out dist

clean: ## remove what was built
	rm -rf target dist $(VENV) runs
