# Two commands are enough for a newcomer: `make demo` and `make test`. Everything else is for those who work on the code.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The newest Python that fits; Python 3.11 is the oldest that works (docs/architecture.md).
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0 numpy

.PHONY: help setup demo test test-nodes check lint types format bench bench-people bench-scheduler bench-fleet bench-queue bench-merge soak doctor pictures lock clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(VENV)/.runtime: requirements.lock
	@test -n "$(PYTHON)" || { echo "FuLLet needs Python 3.11 or newer with the venv module (Debian: apt install python3-venv)."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what FuLLet needs (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing what the tests need (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

setup: $(VENV)/.runtime ## Install what the bot needs into .venv

demo: $(VENV)/.runtime ## Try the bot in the browser: no token, no GPU, no account
	@$(BIN)/python app.py demo $(ARGS)

test: $(VENV)/.dev ## Run every test
	@$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(ARGS)

test-nodes: $(VENV)/.dev ## Install PyTorch (CPU) and run the node pack's tests
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	@$(BIN)/python -m pytest -m torch tests/nodes $(ARGS)

check: lint types test ## What CI runs: style, types, import directions, tests

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(VENV)/.dev
	@$(BIN)/mypy

format: $(VENV)/.dev ## Put the code into the house style
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## Measure what a member feels: start, answers, lag, memory
	@$(BIN)/python -m tools.bench

bench-people: $(VENV)/.dev ## Measure what people see: presses, progress, previews, fifty live cards
	@$(BIN)/python -m tools.bench_people

bench-scheduler: $(VENV)/.runtime ## Simulate a community under four scheduling policies, with gates
	@$(BIN)/python -m tools.bench_scheduler

bench-fleet: $(VENV)/.dev ## The real program before four stand-in GPUs: busy, even, quick; with gates
	@$(BIN)/python -m tools.bench_fleet $(ARGS)

bench-queue: $(VENV)/.dev ## The queue with a million finished jobs, a restart with 500 waiting, memory over 10,000; with gates
	@$(BIN)/python -m tools.bench_queue $(ARGS)

soak: $(VENV)/.dev ## The long proofs: every pair of crashes, and a storm of 200 kills (hours)
	@$(BIN)/python -m tools.soak $(ARGS)

bench-merge: $(VENV)/.dev ## Does merging pay on your server? make bench-merge COMFYUI_URL=http://...
	@test -n "$(COMFYUI_URL)" || { echo "Say which server: make bench-merge COMFYUI_URL=http://127.0.0.1:8188"; exit 2; }
	@$(BIN)/python -m tools.bench_merge $(COMFYUI_URL) $(ARGS)

doctor: $(VENV)/.runtime ## Check .env, Discord, the database and every ComfyUI
	@$(BIN)/python app.py doctor $(ARGS)

pictures: $(VENV)/.dev ## Take the pictures in docs/pictures/ anew (needs Chromium)
	@$(BIN)/python -m tools.take_pictures $(ARGS)

LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

lock: ## Write the exact versions with hashes
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOCK) requirements.txt -o requirements.lock
	@$(LOCK) requirements-dev.txt -o requirements-dev.lock

clean: ## Remove what was made here (not your data)
	@rm -rf $(VENV) .demo .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
