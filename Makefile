# All set-up happens here, in virtual environments of their own, made once and reused.

PORT ?= 8000
# The demo serves on several processes with a Redis between them: make run WORKERS=4 REDIS=redis://localhost
WORKERS ?= 1
REDIS ?=
PYTEST_ARGS ?=

# Pythons by name, and those that pyenv keeps without putting them on the path.
CANDIDATES = python3.14 python3.13 python3.12 python3.11 python3.10 python3 python \
	$(wildcard $(HOME)/.pyenv/versions/3.1[0-4]*/bin/python)
IS_SUPPORTED = import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	if $$python -c '$(IS_SUPPORTED)' >/dev/null 2>&1; then echo $$python; break; fi; done)

VENV ?= .venv
BIN = $(VENV)/bin

define CHECK_REDIS
import asyncio, logging, os, sys
from apistar.exceptions import ConfigurationError
from apistar_ws import Groups, GroupsUnavailable

async def check():
    async with Groups.connect(os.environ['REDIS']):
        pass

logging.disable()
try:
    asyncio.run(check())
except GroupsUnavailable:
    sys.exit('No Redis answers where REDIS says: start one, or run without REDIS, on one process.')
except ConfigurationError as exc:
    sys.exit(str(exc))
endef

REDIS_SERVER = $(shell command -v redis-server || command -v valkey-server)
# What setup.cfg leaves out, and what only a Redis runs.
UNTESTED = tests/benchmarks/*,tests/apps/*,tests/types/*,apistar_ws/groups/*,tests/groups/*,tests/conftest.py,tests/test_docs.py

.PHONY: help run workers-need-redis test test-all lint format docs built bench clean

help:
	@echo 'make run       serve the demo; with WORKERS=4 REDIS=redis://localhost on four processes'
	@echo 'make test      run the suite'
	@echo 'make test-all  run the suite on every Python of 3.10 to 3.14'
	@echo 'make lint      check format, style and types'
	@echo 'make format    write the format'
	@echo 'make docs      build the documentation'
	@echo 'make built     build, install and import the wheel'
	@echo 'make bench     measure against other frameworks'
	@echo 'make clean     remove what all these have made'

run: workers-need-redis $(VENV)/$(if $(REDIS),redis,run).done
	@if [ -n "$$REDIS" ]; then $(BIN)/python -c "$$CHECK_REDIS"; fi
	@echo 'The demo is at http://127.0.0.1:$(PORT)/ (stop it with Ctrl+C)'
	@$(BIN)/uvicorn --app-dir docs/examples --port $(PORT) --workers $(WORKERS) --log-level warning chat:app

workers-need-redis:
	@if [ '$(WORKERS)' != 1 ] && [ -z "$$REDIS" ]; then \
		echo 'Several workers need a Redis between them: make run WORKERS=$(WORKERS) REDIS=redis://localhost' >&2; \
		exit 1; \
	fi

# In the environment, not in a command: a URL may have a password.
run: export REDIS := $(REDIS)
run: export CHECK_REDIS := $(CHECK_REDIS)

test: $(VENV)/test.done
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@if [ -n "$(REDIS_SERVER)" ]; then $(BIN)/coverage report; else \
		echo 'There is no redis-server and no valkey-server: groups over Redis were not tested, and no coverage of groups is asked for.'; \
		$(BIN)/coverage report --omit='$(UNTESTED)'; fi
	@echo 'AsyncAPI documents were held against a JSON Schema; .ci/asyncapi holds them against its own parser, with Node.'

test-all:
	@set -e; for version in 3.10 3.11 3.12 3.13 3.14; do \
		found=''; \
		for python in python$$version python3 $(HOME)/.pyenv/versions/$$version*/bin/python; do \
			if $$python -c '$(IS_SUPPORTED)' >/dev/null 2>&1 && \
				$$python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" 2>/dev/null; \
			then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "== Python $$version: not on this machine"; continue; fi; \
		echo "== Python $$version: $$found"; \
		$(MAKE) --no-print-directory test PYTHON=$$found VENV=.venv-$$version; \
	done

lint: $(VENV)/lint.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(BIN)/python --project tests/types
	$(BIN)/python -m docutils --strict --report=2 README.rst /dev/null

format: $(VENV)/lint.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.done
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo 'The documentation is in docs/_build/html/index.html'

built: $(VENV)/lint.done
	BIN=$(BIN) bash .ci/built

bench: $(VENV)/bench.done
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv .venv-* docs/_build build dist *.egg-info

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo 'No Python of 3.10 to 3.14 with venv was found: set PYTHON=...' >&2; exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip setuptools wheel

$(VENV)/run.done: setup.cfg setup.py $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/%.done: setup.cfg setup.py $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
