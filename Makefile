# `make demo` and `make test` set everything up on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(wildcard plugins/*)
READY := $(VENV)/.ready
PEERS := $(VENV)/.peers
DEMOS := figure1 pointmaze icu-sepsis

BENCHMARKS := figure1 audit quality text throughput policy certificates calibration neighbours gradient exploits coverage patches refine constraints rounds unlearning

.PHONY: help setup demo test soak lint docs bench clean $(BENCHMARKS:%=bench-%)
help:
	@echo "make demo   set up and run the demos; pictures in runs/*/report.html"
	@echo "make test   set up and run the tests"
	@echo "make soak   run the property tests on other examples each time"
	@echo "make lint   ruff, mypy, import-linter"
	@echo "make docs   build the documentation"
	@echo "make bench  run every benchmark beside its baselines; make bench-NAME runs one of"
	@echo "            $(BENCHMARKS)"

# Build tools go in first and projects are built without isolation, so that no build environment
# resolves packages of its own. constraints.txt names the CPU build of torch.
$(READY): pyproject.toml constraints.txt $(PLUGINS:=/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--editable . $(addprefix --editable ./,$(PLUGINS))
	touch $(READY)

setup: $(READY)

demo: $(READY)
	for name in $(DEMOS); do \
		rm -rf runs/$$name; \
		$(BIN)/iirl demo $$name --out runs/$$name || exit $$?; \
	done
	@echo "reports: $(DEMOS:%=runs/%/report.html)"

# Workers share the cores; threads of their own would only get in their way.
test: export OMP_NUM_THREADS = 1
test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

soak: export OMP_NUM_THREADS = 1
soak: $(READY)
	$(BIN)/python -m pytest --numprocesses auto -m hypothesis --hypothesis-profile random

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --quiet -b html docs docs/_build/html

# What auditors are compared with; no part of the product or of its tests.
$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group peers
	touch $(PEERS)

bench-audit: $(PEERS)

bench: $(BENCHMARKS:%=bench-%)

$(BENCHMARKS:%=bench-%): bench-%: $(READY)
	$(BIN)/python -m tests.benchmarks.$*

clean:
	rm -rf $(VENV) runs docs/_build
