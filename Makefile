PYTHON ?= python3
BIN := .venv/bin

# Where it is set, every process that a test starts would compile mlpq anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup check lint demo notebooks test test-compose hosts bench cross chaos mutations mutants soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

KERNEL := workers/mlpq_workers/kernel/libmlpq_kernel.so

setup: .venv/ready .venv/plugin $(KERNEL) ## create .venv with pinned dependencies; .venv/bin/mlpq is then the command

.venv/ready: pyproject.toml constraints.txt scripts/system-packages
	@scripts/system-packages $(PYTHON) venv
	@scripts/system-packages $(PYTHON) compiler || echo "without a compiler, the kernel is left out"
	@echo "setting up .venv with the pinned dependencies; this takes a minute or two"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,dev]'
	@touch $@

# The optimizers of a package that the tests install.
.venv/plugin: .venv/ready $(wildcard tests/plugin/*.toml tests/plugin/src/*.py tests/plugin/src/*/*.py)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall ./tests/plugin
	@rm -rf tests/plugin/build tests/plugin/src/*.egg-info
	@touch $@

$(KERNEL): setup.py $(wildcard workers/mlpq_workers/kernel/src/*) | .venv/ready
	@$(BIN)/python setup.py --quiet build_ext --inplace

demo: setup ## reproduce the textbook's figures through a real queue and database, then compare fairly
	@scripts/system-packages $(PYTHON) data || true
	@scripts/demo

notebooks: setup ## execute the tutorial in a notebook with Fashion-MNIST, some minutes, and store its outputs
	@scripts/system-packages $(PYTHON) data
	$(BIN)/python scripts/notebooks.py

lint: setup ## style, types and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

check: lint ## the quick loop, under a minute: lint and the unit tests, without the slow ones
	@scripts/system-packages $(PYTHON) data
	$(BIN)/pytest --numprocesses 2 --quiet -m "not slow" tests/unit

test: lint ## all tests but those of the deployment, with PostgreSQL and Redis started for them
	@scripts/system-packages $(PYTHON) compiler clang data services browser
	$(BIN)/pytest --numprocesses 3 --dist loadgroup # three on two cores: some of them wait

test-compose: setup ## docker-compose.yml as users run it: disturbed, upgraded, backed up, restored; needs Docker, up to ten minutes
	@scripts/system-packages $(PYTHON) services
	$(BIN)/pytest --numprocesses 0 --exitfirst tests/compose/test_deployment.py

EPOCHS ?= 600

hosts: setup ## workers and databases on several hosts: cuts, failover, clocks; needs Linux and root, twenty minutes
	@scripts/hosts true
	@scripts/system-packages $(PYTHON) services hosts
	EPOCHS=$(EPOCHS) scripts/hosts $(BIN)/pytest --numprocesses 0 --timeout 1200 tests/hosts

bench: setup ## measure the claims of docs/explanation/benchmarks.md, half an hour; writes that page
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[worker,dev,bench]'
	$(BIN)/python -m benchmarks

cross: setup ## the kernel's bits on other CPUs, under qemu-user, three minutes; prints a table
	@scripts/system-packages $(PYTHON) compiler clang cross
	$(BIN)/python -m tests.cross

STORM ?= --jobs 1000 --kills 300 --restarts 50

chaos: setup ## a long storm of kills and restarts over real training, half an hour; prints a report
	@scripts/system-packages $(PYTHON) services
	$(BIN)/python -m tests.chaos.storm $(STORM)

mutations: setup ## remove each mechanism of docs/explanation/reliability.md in turn: a named test must fail
	@scripts/system-packages $(PYTHON) data services
	$(BIN)/python -m tests.chaos.mutations

SEED ?= 1
COUNT ?= 300
PROCESSES ?= 2

mutants: setup ## change single operators, constants and conditions of the pure modules, at random: prints what no unit test notices
	@scripts/system-packages $(PYTHON) data
	$(BIN)/python -m tests.mutants --seed $(SEED) --count $(COUNT) --processes $(PROCESSES) --only '$(ONLY)' --mutant '$(MUTANT)'

soak: setup ## half an hour of small gangs: a worker's memory, with a figure
	@scripts/system-packages $(PYTHON) services
	$(BIN)/python -m tests.chaos.soak --figure docs/images/soak.svg

clean: ## remove what setup and demo created
	rm -rf .venv .demo build $(KERNEL)
