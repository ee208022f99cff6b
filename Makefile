PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/ready ## make .venv with pinned dependencies; afterwards .venv/bin/mlpq is the command

.venv/ready: pyproject.toml constraints.txt scripts/system-packages
	@scripts/system-packages $(PYTHON) venv
	@echo "setting up .venv with the pinned dependencies; this takes a minute or two"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,dev]'
	@touch $@

demo: setup ## the textbook's figures and the fair comparison, through a real queue and database
	@scripts/system-packages $(PYTHON) data || true
	@scripts/demo

test: setup ## all tests, with PostgreSQL and Redis started for them
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 3 --dist loadgroup # most of the time they wait for queues and processes

bench: setup ## measure everything that mlpq claims of its speed, half an hour; writes docs/benchmarks.md
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,dev,bench]'
	$(BIN)/python -m benchmarks

clean: ## remove what setup and demo made
	rm -rf .venv .demo
