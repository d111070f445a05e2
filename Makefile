# The project's commands. `make` alone lists them.
#
# .venv is made here and nowhere else. It is brought up to date when pyproject.toml has changed, by the
# two stamp files: one for what the server needs, one for what tests need on top.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

SEEDS ?= 1000
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help cluster test lint format bench sim generate clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

cluster: $(INSTALLED) ## Start three nodes here; Ctrl-C stops them. ARGS="--port 7101 --dir elsewhere"
	@exec $(BIN)/respraft cluster $(ARGS)

test: $(INSTALLED_TEST) ## Run all tests. ARGS="-k http" picks some
	$(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED_TEST) ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED_TEST) ## Bring the code into the form that lint asks for
	$(BIN)/ruff check --fix --show-fixes
	$(BIN)/ruff format

bench: $(INSTALLED_TEST) ## Measure against redis-server and etcd; takes minutes
	$(BIN)/python -m tests.benchmark $(ARGS)

sim: $(INSTALLED_TEST) ## Run the simulator. SEEDS=10000; ARGS="--seed 8123" repeats one
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

generate: $(INSTALLED_TEST) ## Rewrite what is derived: conf/respraft.toml, the README's command table
	$(BIN)/python -m tests.generate

clean: ## Remove .venv and caches; data/ stays
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find respraft tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "respraft needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
		"Name another with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }

$(INSTALLED): pyproject.toml | $(BIN)/python
	@$(PIP) install --editable .
	@touch $@

$(INSTALLED_TEST): pyproject.toml | $(BIN)/python
	@$(PIP) install --editable '.[test]'
	@touch $@ $(INSTALLED)
