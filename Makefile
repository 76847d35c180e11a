# What people and CI run; `make help` lists it. The first target that needs Python makes .venv.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Tests wait a third of their time; fault tests most of it: for leases, failovers, stores that come back. Whoever has nothing
# left to do takes tests from another worker; what may take longest begins first (tests/conftest.py).
PARALLEL := -n $(shell expr 3 \* $(WORKERS) / 2) --dist worksteal
FAULTS := $(PARALLEL) -m 'not alone and not soak' tests/faults
FAULTS_ALONE := -m 'alone and not soak' tests/faults
# One after the other: two browsers at once take longer on two cores, and take the focus from each other.
BROWSER := -m browser tests/browser
STAMP := $(VENV)/.installed
SOURCES := $(wildcard hub clients tests experiments)

# Images of containers often have this set. Then each of hundreds of hubs under test would compile its modules again, and so
# would each of pytest's workers: half of a hub's start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup tools web demo style format lint types test unit contract e2e faults beside browser fuzz soak bench peers stack profile coverage clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## .venv with everything; again only when pyproject.toml changes

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## a hub with a simulated contact centre; Ctrl-C ends it
	@$(BIN)/hub demo $(ARGS)

style: setup lint ## formatting, lint, direction of imports
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

format: setup ## rewrite the sources as `make style` wants them
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

lint: setup ## imports go one way
	$(BIN)/lint-imports

types: setup ## mypy --strict
	$(BIN)/mypy

test: setup tools ## every test; what needs more than Python is installed where that can be, else said
	$(PYTEST) $(PARALLEL) --ignore tests/faults $(ARGS)
	$(PYTEST) $(FAULTS_ALONE) $(ARGS)
	$(PYTEST) $(FAULTS) $(ARGS)
	@if command -v chromium >/dev/null; then $(PYTEST) $(BROWSER) $(ARGS); fi

tools: ## Debian's packages that some tests need, where they are missing and can be installed
	@wanted=""; for pair in chromium:chromium redis-server:redis-server spin:spin cc:gcc ip:iproute2 haproxy:haproxy promtool:prometheus; do \
		command -v $${pair%%:*} >/dev/null || wanted="$$wanted $${pair##*:}"; done; \
	test -z "$$wanted" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$wanted >/dev/null 2>&1; } \
		|| { echo "some tests are left out; for all of them: apt-get install$$wanted"; test "$$CI" != true; }

web: ## the pages' built files, from their sources (needs Node.js)
	cd clients/web && npm ci --silent && node build.mjs

unit: setup ## pure tests, milliseconds each
	$(PYTEST) $(PARALLEL) tests/unit tests/property tests/simulation $(ARGS)

contract: setup ## the ports' batteries on real engines
	$(PYTEST) $(PARALLEL) tests/contract $(ARGS)

e2e: setup ## real hubs, real sockets
	$(PYTEST) $(PARALLEL) tests/e2e $(ARGS)

faults: setup ## what breaks: hubs, stores, lines, networks, clocks
	$(PYTEST) $(FAULTS_ALONE) $(ARGS)
	$(PYTEST) $(FAULTS) $(ARGS)

beside: setup ## a node of another revision beside one of this tree: make beside REV=HEAD~8
	$(BIN)/python -m tests.faults.beside $(REV)

browser: setup ## the pages in Chromium
	$(PYTEST) $(BROWSER) $(ARGS)

fuzz: setup ## millions of frames that nobody sends on purpose, and every wrong request; hours
	SOAK_FRAMES=5000000 SOAK_BYTES=1000000 SOAK_OPENAPI=500 $(PYTEST) tests/fuzz --timeout 0 -s $(ARGS)

soak: setup ## long runs: contests and kills by the thousand
	SOAK_CONTESTS=20000 SOAK_KILLS=120 SOAK_CROSSINGS=50 SOAK_MESSAGES=10000 SOAK_NOTICES=20000 SOAK_ROLLING=10 \
	ROLLING_SOCKETS=1000 SOAK_STORE_KILLS=500 SOAK_WIPES=50 SOAK_LINKS=200 SOAK_FULL=20 \
	SOAK_PAUSES=300 SOAK_SILENCES=100 SOAK_STEPS=200 SOAK_LINES=50000 SOAK_FAILOVERS=30 SOAK_CUTS=30 SOAK_CLUSTER_KILLS=20 \
	SOAK_MOVES=200 SOAK_JUDGED=300 SOAK_HISTORIES=100 SOAK_MODEL=1 SOAK_SEEDS=1000000 SOAK_TEXTS=5000 \
	SOAK_OUTBOUND=5000 SOAK_OUTBOUND_KILLS=50 SOAK_RIGHTS=1 SOAK_TAMPERINGS=1000 \
	SOAK_STALLED=2000 SOAK_ACL=1 SOAK_FRAMES=5000000 SOAK_BYTES=1000000 SOAK_OPENAPI=500 \
	$(PYTEST) tests/faults tests/property tests/simulation tests/fuzz tests/e2e/test_rights_matrix.py tests/e2e/test_sms.py \
	tests/e2e/test_abuse.py tests/contract/test_access.py tests/contract/test_ledger.py --timeout 0 $(ARGS)

bench: setup ## the hub's promises, measured; alone on the machine
	$(BIN)/python -m clients.load.bench $(ARGS)

peers: setup ## the hub beside Nchan, uWebSockets.js and Socket.IO; alone on the machine
	$(BIN)/python -m clients.load.peers $(ARGS)

stack: setup ## two hubs, a proxy, Prometheus and simulated people; Ctrl-C ends it
	@$(BIN)/python -m clients.load.stack $(ARGS)

profile: setup ## flame graph of a hub under load: profile.svg
	@$(BIN)/python -m clients.load.profile $(ARGS)

coverage: setup ## what the unit tests cover, with branches
	$(BIN)/coverage run -m pytest $(wildcard tests/unit tests/property) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean: ## remove what the targets made, but not the data of a hub
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
