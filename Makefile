# `make` alone lists what there is. Only Python 3.11 to 3.13 and make need to be installed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
PYTEST := MPLBACKEND=Agg $(BIN)/python -m pytest
# One process a core, two at least; whoever runs out of tests takes some of another's.
CORES  := $(shell $(PYTHON) -c 'import os; print(max(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2))')
TESTS  := PYTHONPATH=tests $(PYTEST) -p costs -n $(CORES) --dist worksteal
# Seconds of processor time that `make test` may take; CI sets it. Without it there is no limit.
LIMIT  ?=

# One empty file for each thing installed, so that it is done once, and again when a pin changes.
CORE      := $(VENV)/.installed-core
DEV       := $(VENV)/.installed-dev
NOTEBOOKS := $(VENV)/.installed-notebooks
DOCS      := $(VENV)/.installed-docs
PEERS     := .peers/.installed-neural-tangents .peers/.installed-torch
PINS      := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo studies test test-all test-slow test-matrix check pictures format notebooks check-notebooks docs bench bench-peers pin clean check-wheel
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(CORE) ## compare architectures on the digits, and write a report
	$(BIN)/ntkbias compare --data digits --out runs/demo
	@echo "The report is in $(CURDIR)/runs/demo: open its .html file in a browser."

# Where `make studies` keeps its results: a study that is finished there is not computed again.
STUDIES ?= runs/studies
JOBS    ?= 1

studies: $(CORE) ## all papers' experiments at small scale, and docs/studies.md from them; resumes; hours
	status=0; $(BIN)/ntkbias study all --scale small --jobs $(JOBS) --out $(STUDIES) || status=$$?; \
	$(BIN)/python .ci/studies $(STUDIES) && exit $$status

test: $(DEV) ## every law, layer, domain, message and README block once: some minutes
	$(TESTS) $(if $(LIMIT),--most-processor-time $(LIMIT))

test-all: test ## these, and then the wide ones: the same laws in all their variants
	$(TESTS) -m "wide and not slow"

test-slow: $(DEV) ## the slow tests: statistics over many seeds, killed processes, large sizes
	$(TESTS) -m slow

test-matrix: ## the tests on the oldest and the newest JAX, on each Python that is found
	.ci/matrix

check-wheel: ## the wheel in an empty environment of Python 3.11 and of 3.13, and the README's first example there
	.ci/wheel

check: $(DEV) ## formatting, lint, types, import order, layout, examples in docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) tests/test_house.py
	$(PYTEST) --doctest-modules ntkbias

pictures: $(DEV) ## draw the stored pictures of the plots anew, which the tests compare with: look at them
	MPLBACKEND=Agg PYTHONPATH=tests $(BIN)/python tests/test_pictures.py

format: $(DEV) ## rewrite the code in the house's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

notebooks: $(NOTEBOOKS) ## execute the notebooks, and store what they print and draw
	$(BIN)/python .ci/notebooks store

check-notebooks: $(NOTEBOOKS) ## execute the notebooks, and fail if what they store has gone stale
	$(BIN)/python .ci/notebooks check

.PHONY: docs
docs: $(DOCS) ## build the documentation in build/docs; a warning is an error
	rm -rf build/docs
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html -d build/docs-cache docs build/docs
	@echo "Open $(CURDIR)/build/docs/index.html in a browser."

bench: $(DEV) ## run the benchmarks
	@for benchmark in $(wildcard benchmarks/*.py); do \
	    echo "$$benchmark"; $(BIN)/python "$$benchmark" || exit 1; \
	done

bench-peers: $(PEERS) ## the environments of other packages, for `make bench` to measure them; some 5 GB

pin: ## renew constraints.txt from the newest releases
	$(PYTHON) .ci/pin

clean: ## remove environments, runs, caches and builds
	rm -rf $(VENV) .matrix .peers runs build dist docs/generated .pytest_cache .jax_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    || { echo "Expected Python 3.11 to 3.13; got $$($(PYTHON) --version). Name another: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(CORE): $(PINS) | $(BIN)/python
	$(PIP) -e .
	@touch $@

# neural-tangents without what it says it needs: TensorFlow, which the adapter does not load, takes close to 2 GB.
LEAN_PEER := $(PIP) --no-deps 'neural-tangents==0.6.5' 'frozendict>=2.3'

$(DEV): $(PINS) | $(BIN)/python
	$(PIP) -e '.[dev]'
	$(LEAN_PEER)
	@touch $@

$(NOTEBOOKS): $(PINS) | $(BIN)/python
	$(PIP) -e '.[notebooks,models]'
	$(LEAN_PEER)
	@touch $@

$(DOCS): $(PINS) | $(BIN)/python
	$(PIP) -e '.[docs]'
	@touch $@

# One environment a peer, of the Python that the older of them still takes.
.peers/.installed-%: benchmarks/peers/%.txt
	python=$$(.ci/interpreter 3.11) || { echo "Expected a working Python 3.11 on PATH or under pyenv; found none."; exit 1; }; \
	"$$python" -m venv --clear .peers/$*
	.peers/$*/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	if [ $* = torch ]; then .peers/torch/bin/python -m pip --disable-pip-version-check install --quiet --no-deps nngeometry==0.4; fi
	@touch $@
