# What the gate runs, one target each; `make check` is all of it but the clean environment.
PYTHON ?= .venv/bin/python

.PHONY: check test lint types imports format benchmarks quality

check: lint types imports test

test:
	$(PYTHON) -m pytest

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
