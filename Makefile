# Everything that is done with this repository, by name. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-lowest faults bench bench-peers quality sameness lint wheel dist docs demo-quick clean

PYTHON ?= python3
VENV ?= .venv
LOWEST := .venv-lowest
DEMO ?= runs/demo
# Two processes of tests, a file of them in one process, one thread each.
SIDE_BY_SIDE := -n 2 --dist loadfile
# Options of tests/faults/report.py, such as FAULTS="--only kills".
FAULTS ?=
# Options of benches/report.py, such as BENCH="--only loading".
BENCH ?=
# The commit that `make sameness` compares with, and options of benches/same_bits.py, such as SAMENESS="--presets sasrec".
BEFORE ?=
SAMENESS ?=
CONSTRAINTS := requirements/constraints.txt
BIN := $(VENV)/bin

# The environment's own tools; cargo is asked for exactly what Cargo.lock names.
export VIRTUAL_ENV := $(abspath $(VENV))
export UV_CONSTRAINT := $(abspath $(CONSTRAINTS))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Unoptimised property tests take minutes; this keeps the overflow checks and takes seconds.
export CARGO_PROFILE_TEST_OPT_LEVEL ?= 1
test test-lowest: export OMP_NUM_THREADS ?= 1

RUST := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock

# $(call stage,NAME,COMMAND): runs COMMAND, then prints how long it took.
stage = began=$$(date +%s); $(2); echo "== $(1): $$(($$(date +%s) - began)) s"

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.native ## make .venv with every dependency and build the extension (release mode); again: only what changed
	@echo "ready: $(BIN)/llm-esr --help"

$(VENV)/.packages: pyproject.toml $(CONSTRAINTS)
	@command -v cargo >/dev/null || { echo "cargo was not found; install Rust (https://rustup.rs) and open a new shell" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); name another with PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || env -u UV_CONSTRAINT $(BIN)/python -m pip install -q uv
	@echo "installing the packages of .venv (6 GB, most of it torch)"
	@$(call stage,packages,$(BIN)/uv pip install -q -c $(CONSTRAINTS) -r pyproject.toml --extra dev)
	@touch $@

$(VENV)/.native: $(VENV)/.packages $(RUST)
	@echo "building the Rust extension in release mode (a minute or more the first time)"
	@$(call stage,extension,$(BIN)/maturin develop --uv --release --locked --quiet)
	@touch $@

demo: setup ## simulated data, SASRec and LLM-ESR, one table, recommendations in words (runs/demo)
	@$(call stage,demo,$(BIN)/llm-esr demo --out $(DEMO))

test: setup ## Rust and Python tests, with the time of each stage
	@$(call stage,cargo test,cargo test --quiet --locked -p llm-esr-core)
	@$(call stage,pytest,$(BIN)/python -m pytest $(SIDE_BY_SIDE))

test-lowest: setup ## the Python tests with the lowest versions that pyproject.toml allows (in .venv-lowest)
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@rm -rf target/lowest
	@$(call stage,wheel,$(BIN)/maturin build --release --locked --quiet --out target/lowest)
	@$(call stage,packages,env -u UV_CONSTRAINT VIRTUAL_ENV=$(abspath $(LOWEST)) $(BIN)/uv pip install -q --resolution lowest-direct \
	  -r pyproject.toml --extra dev)
	@env -u UV_CONSTRAINT VIRTUAL_ENV=$(abspath $(LOWEST)) $(BIN)/uv pip install -q --no-deps --reinstall target/lowest/*.whl
	@$(call stage,pytest,VIRTUAL_ENV=$(abspath $(LOWEST)) $(LOWEST)/bin/python -m pytest $(SIDE_BY_SIDE))

faults: setup ## kills, power cuts, full disks, damaged files, each at its full size; writes docs/reliability.md
	@$(call stage,faults,$(BIN)/python tests/faults/report.py $(FAULTS))

bench: setup ## loaders, negatives and the training step beside their peers; writes docs/benchmarks.md and .json
	@$(call stage,bench,$(BIN)/python benches/report.py $(BENCH))

bench-peers: setup ## other packages beside ours, each in an environment of its own (gigabytes, runs/bench/envs)
	@$(call stage,bench-peers,$(BIN)/python benches/report.py --only peers,training-peers,item-knn-peers,retrieval-peers)

quality: setup ## train what docs/quality.md reports, skipping what is finished, and write it
	@$(call stage,quality,$(BIN)/python benches/quality.py)

sameness: setup ## whether this tree computes the same bits as a commit: make sameness BEFORE=<commit> (runs/sameness)
	@$(call stage,sameness,$(BIN)/python benches/same_bits.py $(BEFORE) $(SAMENESS))

lint: setup ## ruff, mypy --strict, rustfmt and clippy
	@$(call stage,ruff,$(BIN)/ruff check .; $(BIN)/ruff format --check .)
	@$(call stage,mypy,$(BIN)/mypy)
	@$(call stage,rustfmt,cargo fmt --all --check)
	@$(call stage,clippy,cargo clippy --quiet --locked --workspace --all-targets -- -D warnings)

wheel: setup ## a wheel in dist/: manylinux2014 through zig where it can be had, else with this machine's tag
	@mkdir -p dist && rm -f dist/*.whl
	@if [ "$$(uname -s)" = Linux ] && $(BIN)/uv pip install -q -r requirements/wheel.txt; then \
	  PATH="$(abspath $(BIN)):$$PATH" $(BIN)/maturin build --release --locked --quiet --zig --compatibility manylinux2014 --out dist; \
	else $(BIN)/maturin build --release --locked --quiet --out dist; fi
	@ls -1sh dist/*.whl

demo-quick: setup ## the demo over a smaller shop and fewer epochs: about a minute (runs/demo-quick)
	@$(call stage,demo-quick,$(BIN)/llm-esr demo --quick --out $(DEMO)-quick)

# The site's packages are no part of `make setup`: they are half as many as all the others.
docs: setup ## the site of docs/ into site/: strict, its notebook executed, the Python reference from the docstrings
	@$(BIN)/uv pip install -q -r pyproject.toml --extra docs
	@$(call stage,docs,NO_MKDOCS_2_WARNING=1 PYTHONPATH=$(abspath python) $(BIN)/python -m mkdocs build --strict --quiet 2> >(grep -v 'Kernel is running over TCP' >&2))
	@echo "site/index.html"

# A shop simulated, prepared and trained on by the package in a folder, not by the working tree.
TRY_OUT := import llm_esr; print(llm_esr.__file__); i, t = llm_esr.simulate(n_users=60, n_items=130); \
  llm_esr.prepare(i, items=t, out="shop"); llm_esr.train("shop", config="sasrec", epochs=1, width=8, progress=False)

# What .github/workflows/release.yml does on each platform, done on this one.
dist: setup ## an sdist in dist/, the wheel that it makes in a clean folder, tried out there, and twine check
	@mkdir -p dist && rm -f dist/*.tar.gz dist/*.whl
	@$(BIN)/python -m maturin sdist --out dist 2>&1 | tail -1
	@clean=$$(mktemp -d); trap 'rm -rf "$$clean"' EXIT; \
	$(call stage,wheel of the sdist,env -u UV_CONSTRAINT $(BIN)/uv build --quiet --wheel --out-dir "$$clean/wheel" dist/*.tar.gz); \
	env -u UV_CONSTRAINT $(BIN)/uv pip install -q --no-deps --target "$$clean/site" "$$clean"/wheel/*.whl; \
	cd "$$clean"; PYTHONPATH="$$clean/site" $(abspath $(BIN))/python -c '$(TRY_OUT)' | grep -q "^$$clean/site/"; \
	cp "$$clean"/wheel/*.whl $(abspath dist)/
	@env -u UV_CONSTRAINT $(BIN)/uv tool run -q --from "twine>=6" twine check --strict dist/*
	@ls -1sh dist

clean: ## remove what was built (not the runs)
	rm -rf target dist site $(VENV) $(LOWEST) python/llm_esr/_native*.so
