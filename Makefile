# `make help` lists the commands.
VENV := .venv
PY := $(VENV)/bin/python
# maturin builds into the environment named here.
BUILD := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(VENV)/bin/maturin develop

.DEFAULT_GOAL := help
.PHONY: help setup build train predict test test-rust test-python lint format bench wheel clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(VENV)/ready: pyproject.toml
	python3 -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet "maturin>=1.8,<2.0" "hypothesis>=6.100" "mypy>=2.4" "numpy>=1.26" \
		"pytest>=8" "pytest-benchmark>=5" "ruff>=0.6" "matplotlib>=3.8" "tqdm>=4.66"
	touch $@

setup: $(VENV)/ready ## create the virtual environment

build: setup ## build the core into the virtual environment
	$(BUILD) --release

train: build ## train a network on the handwritten digits
	$(PY) examples/train_digits.py

predict: ## read some digits with the trained network
	$(PY) examples/predict_digits.py

test: lint test-rust test-python ## run all tests and the linters

test-rust: ## run the tests of the Rust core
	cargo test --package firesteel

test-python: build ## run the tests of the Python package
	$(PY) -m pytest

lint: build ## check formatting, types, clippy and ruff
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	$(VENV)/bin/ruff check python tests examples benchmarks
	$(VENV)/bin/ruff format --check python tests examples benchmarks
	$(PY) -m mypy
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml --allowlist tests/stubtest_allowlist.txt firesteel._core

format: setup ## format everything
	cargo fmt
	$(VENV)/bin/ruff format python tests examples benchmarks
	$(VENV)/bin/ruff check --fix python tests examples benchmarks

bench: build ## time Firesteel beside PyTorch, where that is installed
	$(PY) -m pytest benchmarks --benchmark-only
	cargo bench --package firesteel

wheel: setup ## build the wheel for distribution into dist/
	$(VENV)/bin/maturin build --profile dist --out dist

clean: ## remove what was built
	rm -rf target dist $(VENV) runs
