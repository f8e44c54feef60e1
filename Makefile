# Everything that a checkout can do. Needs make and Python 3.11 or newer with venv; the rest is fetched into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .
SOURCES := agentwatch tests benchmarks fuzz tools

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench torture soak newcomer e2e-agents systemd object-store fuzz audit lock reference screenshots docs dist prices clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: .venv/run.stamp ## watch the agents' logs, in the foreground
	@exec $(BIN)/agentwatch run

demo: .venv/run.stamp ## show alerts on recorded material, in a scratch directory
	@exec $(BIN)/agentwatch demo

test: .venv/dev.stamp ## run the tests
	$(BIN)/pytest -n 2 -m "not torture and not agents and not newcomer and not systemd"

check: .venv/dev.stamp ## lint, formatting, types
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

bench: .venv/dev.stamp ## measure speed and memory
	$(BIN)/python -m benchmarks

torture: .venv/dev.stamp ## kill it thousands of times and compare with an oracle; takes long
	$(BIN)/pytest -m torture

soak: .venv/dev.stamp ## an hour at 500 events a second, with rotations and faults; nothing may grow
	$(BIN)/python -m benchmarks.soak

newcomer: .venv/dev.stamp ## do what the README says, in a fresh clone and an empty home
	$(BIN)/pytest -n 0 -m newcomer

e2e-agents: .venv/dev.stamp .cache/agents/installed.stamp ## watch Claude Code and Codex themselves, against a model on loopback, and drive the MCP tools by its inspector; needs npm
	$(BIN)/pytest -m agents

systemd: .venv/dev.stamp ## run the services under a systemd of their own, in a container; needs root and systemd-nspawn
	$(BIN)/pytest -m systemd

object-store: ## keep finished days in an S3 server on loopback, with the newest DuckDB whose extension PyPI has
	$(PYTHON) -m venv .cache/object-store
	.cache/object-store/bin/python -m pip --quiet --disable-pip-version-check install --editable . pytest hypothesis psutil \
		'moto[server]==5.2.5' duckdb==1.5.5 duckdb-extension-httpfs==1.5.5 duckdb-extension-aws==1.5.5
	.cache/object-store/bin/pytest tests/store/test_object_store.py tests/store/test_parquet.py

fuzz: .venv/dev.stamp ## feed the parsers with what breaks them, ten minutes each
	$(PIP) install --require-hashes --requirement requirements/fuzz.txt
	for target in lines formats wholes outside rules; do mkdir -p .cache/fuzz/$$target && \
		$(BIN)/python -m fuzz.$$target .cache/fuzz/$$target fuzz/seeds/$$target $$(find tests/formats/golden -mindepth 1 -type d) -max_len=8192 -max_total_time=600 -timeout=60 || exit 1; done

audit: .venv/dev.stamp ## ask for known holes in the pinned packages; needs PyPI's advisories
	$(PYTHON) -m venv .cache/audit
	.cache/audit/bin/python -m pip --quiet --disable-pip-version-check install pip-audit
	.cache/audit/bin/pip-audit --require-hashes --disable-pip --requirement requirements/run.txt

lock: .venv/dev.stamp ## pin all dependencies anew, with hashes
	$(COMPILE) --output-file requirements/run.txt pyproject.toml requirements/run.in
	$(COMPILE) --output-file requirements/dev.txt requirements/dev.in
	$(COMPILE) --output-file requirements/fuzz.txt requirements/fuzz.in
	$(COMPILE) --output-file requirements/docs.txt requirements/docs.in

reference: .venv/dev.stamp ## make docs/commands.md, docs/settings.md and the manual page anew, of the program
	$(BIN)/python -m tools.reference

screenshots: .venv/dev.stamp ## take the pictures of the documentation anew; needs tmux and Chromium
	$(BIN)/python -m tools.pictures
	$(BIN)/python -m tools.screenshots

docs: .venv/docs.stamp ## build the documentation's pages into .cache/docs
	$(BIN)/mkdocs build --strict --quiet

dist: .venv/dev.stamp ## build the wheel and the source distribution into dist/
	rm -rf dist
	$(BIN)/python -m hatchling build

prices: .venv/dev.stamp ## make the price list anew, of the locked genai-prices
	$(BIN)/python -m tools.prices

clean: ## remove what was installed and cached
	rm -rf .venv .cache/agents .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The oldest Python that is supported needs the most packages. No address is written: each machine has its own.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements/run.txt pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes --requirement requirements/run.txt
	$(PROJECT)
	@touch $@

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes --requirement requirements/dev.txt
	$(PROJECT)
	@touch $@ .venv/run.stamp

.venv/docs.stamp: requirements/docs.txt .venv/dev.stamp
	$(PIP) install --require-hashes --requirement requirements/docs.txt
	@touch $@

# Without a lock file, which would name a registry; the agents depend on nothing but their own programs for each platform.
.cache/agents/installed.stamp: tests/agents/package.json
	mkdir -p $(@D)
	cp $< $(@D)
	npm install --prefix $(@D) --no-package-lock --no-audit --no-fund --loglevel=error
	@touch $@
