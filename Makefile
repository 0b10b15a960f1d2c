# Two commands do all the set-up on a fresh machine with Python 3.11 or later: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test check check-style docs format install clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   set up .venv, then train a tiny captioner with XE, SCST and ranking-DPO on drawn pictures (minutes)"
	@echo "make test         set up .venv, then run all tests"
	@echo "make check        format, lint, types and the fast tests"
	@echo "make docs         build the documentation into build/site"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("rlcap needs Python 3.11 or later; this is %d.%d (set PYTHON=python3.x)" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# The marker is newer than pyproject.toml exactly when the installed packages are those it names.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

install: $(VENV)/.installed

quickstart: install
	$(BIN)/rlcap quickstart

test: install
	$(BIN)/python -m pytest tests

check-style: install
	@! git grep -nE '^(<{7}|>{7}) '  # a merge that was left unfinished
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: check-style
	$(BIN)/python -m pytest tests -m "not slow"

docs: install
	$(BIN)/python -m mkdocs build --strict

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
