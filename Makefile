# What the gate runs, one target each; `make check` is all of it but the clean environment.
PYTHON ?= .venv/bin/python

.PHONY: check test unit integration end-to-end lint types imports format benchmarks quality lock audit docs

check: lint types imports test

test:
	$(PYTHON) -m pytest

# One tier of the tests.
unit integration end-to-end:
	$(PYTHON) -m pytest -n logical tests/$(subst -,_,$@)

lint:
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

types:
	$(PYTHON) -m mypy

imports:
	$(dir $(PYTHON))lint-imports --no-logo

format:
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

benchmarks:
	for script in startup reconcile rename latency throughput search; do $(PYTHON) benchmarks/$$script.py || exit 1; done

# PHOTOS is a folder with one sub-folder of photos per class.
quality:
	$(PYTHON) benchmarks/quality.py $(PHOTOS)

# What an installation that is to be the same everywhere takes: README's packages and what builds lookalike, with the hashes of their files.
lock:
	uv pip compile pyproject.toml --extra text --extra build --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --upgrade --quiet --output-file requirements.lock

# Asks PyPI which of those have known vulnerabilities; fails too where it cannot be asked about one.
audit:
	$(PYTHON) -m pip_audit --strict --requirement requirements.lock --require-hashes --disable-pip

# The configuration reference and the annotated defaults, of what daemon/config.py says.
docs:
	$(PYTHON) -m docs.configuration_reference
