# privseg: what a person types. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready-$(shell cat pyproject.toml requirements/*.txt scripts/setup.sh 2>/dev/null | sha256sum | cut -c1-16)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup run test check soak airflow stop clean

help:  ## list these verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(READY)  ## install everything privseg needs into .venv and .venv-triton

$(READY): pyproject.toml requirements/constraints.txt requirements/triton.txt scripts/setup.sh
	@PYTHON=$(PYTHON) scripts/setup.sh run
	@rm -f .venv/.ready-* && touch $@

run: $(READY)  ## retrain through Airflow, publish to a local Triton, protect a clip (PRIVSEG_DATA=folder for real data)
	@$(BIN)/privseg run

test: $(READY)  ## install what tests need and run all of them: lint, types, arrows, tests
	@PYTHON=$(PYTHON) scripts/setup.sh test
	@$(MAKE) --no-print-directory check
	@scripts/test.sh

check: $(READY)  ## lint, types and import arrows only
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

soak: $(READY)  ## fifty promotions and twenty roll backs under load, in minutes; then four cameras for an hour
	@$(BIN)/python -m pytest -m soak tests/soak
	@$(BIN)/python benchmarks/soak.py

airflow: $(READY)  ## Airflow's page and scheduler on http://127.0.0.1:8080
	@$(BIN)/privseg airflow

stop:  ## stop the local Triton servers that `make run` started
	@for home in .privseg/*/; do [ -d "$$home" ] || continue; $(BIN)/privseg triton down --home "$$home"; done

clean: stop  ## remove everything runs have made (.privseg); keeps the environments
	@rm -rf .privseg
