# make up and make test need Python 3.11 or newer and make, nothing else.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.consuma-installed
ARGS ?=
WORKERS ?= 4

.DEFAULT_GOAL := help
.PHONY: help setup up test check format bench drill doctor lock clean

help: ## Show the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with everything (PYTHON=… names the interpreter)

$(STAMP): pyproject.toml constraints.txt infra/setup.sh
	@sh infra/setup.sh $(VENV)
	@touch $@

up: $(STAMP) ## Run everything on this machine (ARGS="--port 8100 …")
	@exec $(BIN)/consuma up $(ARGS)

test: $(STAMP) ## Run the tests against a real broker and database (ARGS="-k name …" WORKERS=…)
	@exec $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(ARGS)

check: $(STAMP) ## Look at style, format, types and the borders between modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## Measure a sync call against the running system (ARGS="--calls 2000 …")
	@exec $(BIN)/python -m bench.sync_latency $(ARGS)

drill: $(STAMP) ## Hurt a system of its own for ten minutes and judge it (ARGS="--minutes 2 --seed 7 …")
	@exec $(BIN)/python -m bench.drill --minutes 10 $(ARGS)

doctor: $(STAMP) ## See what is as it should be on this machine
	@exec $(BIN)/consuma doctor $(ARGS)

lock: $(STAMP) ## Pin the newest versions of all dependencies in constraints.txt
	@echo "# The versions that this release is developed and tested with. Written by \`make lock\`." > constraints.new
	@$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o - pyproject.toml >> constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove what setup and tools have made; the data of `make up` stays
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
