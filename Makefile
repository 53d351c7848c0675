# Heed on this machine. Needs make and Python 3.11 or newer; everything else is brought along.
#
#   make up ARGS="--detach"      arguments go to the command
#   make up PYTHON=python3.12    another Python
#   HEED_HOME=/data/heed make up another place for the data (default .heed)

PYTHON ?= python3
ARGS ?=
HEED_HOME ?= .heed
export HEED_HOME

BIN := .venv/bin
RUN := $(BIN)/python
# the environment belongs to this place and this lock: when one changes, it is made or filled anew
READY := .venv/.ready-$(shell printf '%s' '$(CURDIR)' | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := install
.PHONY: install help up down watch test check slow soak bench oracle capabilities lock clean

install: $(READY) ## Make the environment: .venv with every package of the lock, and .venv/bin/heed (the default)
	@echo "Ready. \`make up\` starts Heed, \`make help\` lists the rest."

help: ## Show this
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

up: $(READY) ## Start Kafka, PostgreSQL, three workers and the API, and play the demo; Ctrl-C stops
	@exec $(BIN)/heed up $(ARGS)

down: $(READY) ## Stop what `make up` started; the data stays
	@exec $(BIN)/heed down $(ARGS)

watch: $(READY) ## Start Prometheus, with Heed's alerts, over the running stack; Ctrl-C stops
	@exec $(RUN) -m deploy.watch

test: check ## Check, then run every test but the slow ones, on real servers, in two halves side by side
	$(RUN) -m pytest -n 2 -m "not slow" $(ARGS)

check: $(READY) ## Format, lint, strict types, import contracts, tidiness
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(RUN) -m pytest -q tests/test_tidy.py

slow: $(READY) ## Run the slow tests: long faults, memory, more examples of the laws
	$(RUN) -m pytest -m slow $(ARGS)

soak: $(READY) ## Break everything under load for 30 minutes and check the history; ARGS="--minutes 5 --seed 7"
	$(RUN) -m tests.soak $(ARGS)

bench: $(READY) ## Measure every rung beside its neighbours; results are printed and kept
	$(RUN) -m tests.bench $(ARGS)

oracle: $(READY) ## Compare every row of the running stack with brute force over the topics
	@exec $(RUN) -m tests.oracle $(ARGS)

capabilities: $(READY) ## List each capability, the tests that show it, and how they last went
	@$(RUN) -m pytest -q --capabilities

lock: ## Resolve the dependencies anew into requirements/lock.txt (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --no-header --quiet pyproject.toml --group local --group dev -o requirements/lock.txt

clean: ## Stop the stack, remove its data and every cache; the environment stays
	@if [ -x $(BIN)/heed ]; then $(BIN)/heed down; fi
	@if [ -e "$(HEED_HOME)/keeper" ]; then rm -rf "$(HEED_HOME)"; fi
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

$(READY): requirements/lock.txt pyproject.toml
	@PYTHON="$(PYTHON)" sh deploy/install.sh
	@rm -f .venv/.ready-* && touch $@
