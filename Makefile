# The project's commands. `make` alone lists them.
#
# .venv is made here and nowhere else. It is brought up to date when pyproject.toml has changed, by the
# two stamp files: one for what the server needs, one for what tests need on top. What is in it runs the sources
# as they are. `cluster`, `bench` and `test-compiled` run respraft as it is installed elsewhere, compiled where
# there is a C compiler (build_backend.py), from a directory that is made anew when a source has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_BENCH := $(VENV)/.installed-bench
COMPILED := $(CURDIR)/build/installed
# Before the sources, and the directory of `python -m` not at all.
RUN_COMPILED := env PYTHONSAFEPATH=1 PYTHONPATH=$(COMPILED):$(CURDIR)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests run side by side, one process a core: most of the time of those that start servers is waiting. More
# than four would make a machine of many cores so busy with clusters that elections take their time-outs.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
SEEDS ?= 1000
CHAOS_SEEDS ?= 3
MINUTES ?= 1
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help cluster test test-compiled lint format bench sim mutations chaos generate clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

cluster: $(COMPILED)/.installed ## Start three nodes here; Ctrl-C stops them. ARGS="--port 7101 --dir elsewhere"
	@exec $(RUN_COMPILED) $(BIN)/python -m respraft cluster $(ARGS)

test: $(INSTALLED_TEST) ## Run all tests. ARGS="-k http" picks some; ARGS="-n 0 ..." one at a time
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-compiled: $(COMPILED)/.installed $(INSTALLED_TEST) ## Run the tests against the compiled modules
	$(RUN_COMPILED) $(BIN)/python -m pytest -o pythonpath= $(PARALLEL) $(ARGS)

lint: $(INSTALLED_TEST) ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(INSTALLED_TEST) ## Bring the code into the form that lint asks for
	$(BIN)/ruff check --fix --show-fixes
	$(BIN)/ruff format

bench: $(COMPILED)/.installed $(INSTALLED_BENCH) ## Measure against redis-server, etcd and pysyncobj; takes minutes
	$(RUN_COMPILED) $(BIN)/python -m tests.benchmark $(ARGS)

sim: $(INSTALLED_TEST) ## Run the simulator. SEEDS=10000; ARGS="--seed 8123" repeats one
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

mutations: $(INSTALLED_TEST) ## Does the simulator find what is broken on purpose? The rare ones too; takes minutes
	RARE_MUTATIONS=1 $(BIN)/python -m pytest $(PARALLEL) tests/simulation/test_mutations.py $(ARGS)

chaos: $(COMPILED)/.installed $(INSTALLED_TEST) ## Hurt real clusters, a minute a seed. CHAOS_SEEDS=20 MINUTES=2; ARGS="--only kill,part"
	$(RUN_COMPILED) $(BIN)/python -m tests.chaos --seeds $(CHAOS_SEEDS) --minutes $(MINUTES) $(ARGS)

generate: $(INSTALLED_TEST) ## Rewrite what is derived: conf/respraft.toml, the README's command table
	$(BIN)/python -m tests.generate

clean: ## Remove .venv and caches; data/ stays
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
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

$(INSTALLED_BENCH): $(INSTALLED_TEST)
	@$(PIP) install --editable '.[test,bench]'
	@touch $@

$(COMPILED)/.installed: setup.py build_backend.py pyproject.toml $(shell find respraft -name '*.py') | $(INSTALLED)
	@echo "Installing respraft into $(COMPILED), compiled if possible: about a minute ..." >&2
	@rm -rf $(COMPILED)
	@$(PIP) install --no-deps --target $(COMPILED) .
	@touch $@
