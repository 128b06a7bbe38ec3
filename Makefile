# All set-up happens here, in virtual environments of their own, made once and reused.

PORT ?= 8000
# The demo serves on several processes with a Redis between them: make run WORKERS=4 REDIS=redis://localhost
WORKERS ?= 1
REDIS ?=
PYTEST_ARGS ?=
# The versions that the suite is known to pass with; LATEST=1 takes the newest that the package allows.
PINS = .ci/pins.txt
LATEST ?=

# Pythons by name, and those that pyenv keeps without putting them on the path.
CANDIDATES = python3.14 python3.13 python3.12 python3.11 python3.10 python3 python \
	$(wildcard $(HOME)/.pyenv/versions/3.1[0-4]*/bin/python)
IS_SUPPORTED = import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	if $$python -c '$(IS_SUPPORTED)' >/dev/null 2>&1; then echo $$python; break; fi; done)

VENV ?= .venv$(if $(LATEST),-latest)
BIN = $(VENV)/bin
# There is no pyproject.toml: without isolation the package is built with the setuptools that is pinned.
INSTALL = $(BIN)/python -m pip install --no-build-isolation --use-pep517 $(if $(LATEST),--upgrade,--constraint $(PINS))
# pip says much that nobody needs to read, unless it fails.
QUIETLY = >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
PYTEST = -m pytest --numprocesses auto --dist loadgroup --quiet $(PYTEST_ARGS)

# Tests start many processes: what is compiled once is kept.
unexport PYTHONDONTWRITEBYTECODE

define CHECK_PORT
import socket, sys
try:
    socket.create_server(('127.0.0.1', $(PORT))).close()
except OSError as exc:
    sys.exit('Port $(PORT) cannot be used (%s). Choose another: make run PORT=8001' % exc.strerror)
endef

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
    sys.exit('No Redis answers at REDIS: start one, or run without REDIS, in one process.')
except ConfigurationError as exc:
    sys.exit(str(exc))
endef

.PHONY: help run workers-need-redis test test-soak test-all coverage lint format docs built counts bench pins clean

help:
	@echo 'make run        serve the demo; on another port with PORT=8001,'
	@echo '                in four processes with WORKERS=4 REDIS=redis://localhost'
	@echo 'make test       run the suite; with the newest packages by LATEST=1'
	@echo 'make test-soak  run the tests that can do more, with far more than usual'
	@echo 'make test-all   run the suite on every Python of 3.10 to 3.14 that is installed'
	@echo 'make coverage   run the suite with everything required, and ask for full coverage'
	@echo 'make lint       check format, style and types'
	@echo 'make format     write the format'
	@echo 'make docs       build the documentation'
	@echo 'make built      build, install and import the wheel'
	@echo 'make counts     count instructions on every Python that is installed'
	@echo 'make bench      measure against other frameworks'
	@echo 'make pins       write $(PINS) anew'
	@echo 'make clean      remove what all these have made'

run: workers-need-redis $(VENV)/$(if $(REDIS),redis,run).done
	@$(BIN)/python -c "$$CHECK_PORT"
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
run: export CHECK_PORT := $(CHECK_PORT)

test: $(VENV)/test.done .hypothesis
	@$(BIN)/python $(PYTEST)

test-soak: $(VENV)/test.done .hypothesis
	@SOAK=$${SOAK:-1} $(BIN)/python $(PYTEST) -m soak

coverage: $(VENV)/test.done $(VENV)/docs.done .hypothesis
	@$(BIN)/coverage erase
	@REQUIRE_ALL=1 $(BIN)/coverage run $(PYTEST)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-all:
	@$(MAKE) --no-print-directory each-python DO=test

counts:
	@$(MAKE) --no-print-directory each-python DO=count

# Run a target in an environment of its own on every supported Python that is installed.
each-python:
	@set -e; for version in 3.10 3.11 3.12 3.13 3.14; do \
		found=''; \
		for python in python$$version python3 $(HOME)/.pyenv/versions/$$version*/bin/python; do \
			if $$python -c '$(IS_SUPPORTED)' >/dev/null 2>&1 && \
				$$python -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$$version')" 2>/dev/null; \
			then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then echo "== Python $$version: not on this machine"; continue; fi; \
		echo "== Python $$version: $$found"; \
		$(MAKE) --no-print-directory $(DO) PYTHON=$$found VENV=.venv-$$version; \
	done

# Of one Python: with CHECK=1 against the noted figures, with WRITE=1 to note them.
count: $(VENV)/counts.done
	@$(BIN)/python -m tests.benchmarks.counted $(if $(CHECK),--check) $(if $(WRITE),--write)

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

# One file for all supported Pythons; nothing else needs uv.
pins: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade uv
	printf 'pip\nsetuptools\nwheel\n' | $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 \
		--no-header --no-annotate $(foreach extra,redis test lint docs counts,--extra $(extra)) \
		setup.py - --output-file $(PINS)

clean:
	rm -rf .venv .venv-* .hypothesis docs/_build build dist *.egg-info .coverage*

# hypothesis writes its table of characters, which otherwise every process of a new clone would make.
.hypothesis: | $(VENV)/test.done
	@$(BIN)/python -c "from hypothesis import strategies; strategies.characters(exclude_categories=['Cs']).validate()"

$(VENV)/bin/python: $(PINS)
	@if [ -z "$(PYTHON)" ]; then echo 'No Python of 3.10 to 3.14 with venv was found: set PYTHON=...' >&2; exit 1; fi
	@echo 'Setting up $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --upgrade $(if $(LATEST),,--constraint $(PINS)) pip setuptools wheel $(QUIETLY)
	@touch $@

$(VENV)/run.done: setup.cfg setup.py $(VENV)/bin/python
	@$(INSTALL) --editable . $(QUIETLY)
	@touch $@

$(VENV)/%.done: setup.cfg setup.py $(VENV)/bin/python
	@echo 'Installing what "$*" needs'
	@$(INSTALL) --editable '.[$*]' $(QUIETLY)
	@touch $@
