PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-compose bench chaos mutations soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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
	@scripts/system-packages $(PYTHON) data services browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses 3 --dist loadgroup # most of the time they wait for queues and processes

test-compose: setup ## docker-compose.yml as a user has it, disturbed, backed up and restored; needs Docker, ten minutes
	@scripts/system-packages $(PYTHON) services
	$(BIN)/pytest --numprocesses 0 --exitfirst tests/compose/test_deployment.py

bench: setup ## measure everything that mlpq claims of its speed, half an hour; writes docs/benchmarks.md
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,dev,bench]'
	$(BIN)/python -m benchmarks

STORM ?= --jobs 1000 --kills 300 --restarts 50

chaos: setup ## a long storm of kills and restarts over real training, half an hour; prints what came of it
	@scripts/system-packages $(PYTHON) services
	$(BIN)/python -m tests.chaos.storm $(STORM)

mutations: setup ## take each mechanism of docs/reliability.md out in turn: a named test must fail
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/python -m tests.chaos.mutations

soak: setup ## half an hour of small gangs: the memory of a worker, with a figure
	@scripts/system-packages $(PYTHON) services
	$(BIN)/python -m tests.chaos.soak --figure docs/soak.svg

clean: ## remove what setup and demo made
	rm -rf .venv .demo
