# make demo        the main job on the embedded data, into runs/demo
# make test        every check that a change has to pass
# make test-all    the same with the tests marked slow
# make lint        ruff, mypy, import-linter
#
# Each makes the environment .venv on first use and needs no network afterwards.
# PYTHON=/path/to/python3.12 chooses the interpreter.

PYTHON ?=
CANDIDATES := python3 python3.11 python3.12 python3.13 python3.14 python
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

#: What points to other checkouts must not reach this one.
unexport PYTHONPATH
unexport PYTHONHOME

.SILENT:
.PHONY: help demo test test-all lint clean

help:
	sed -n 's/^# //p' Makefile

demo: $(STAMP)
	$(BIN)/python -m compress distill --speedup 4 --epochs 12 --batch-size 32 --lr 0.05 \
	  --schedule one-cycle --dropout 0 --crop-padding 2 --out runs/demo

test: lint
	$(BIN)/python -m pytest

test-all: lint
	$(BIN)/python -m pytest -m "not gpu and not tensorrt"

lint: $(STAMP)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo

#: Holds for as long as what it was installed from stays the same.
$(STAMP): pyproject.toml constraints.txt
	usable='import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; \
	python=""; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	  if "$$candidate" -c "$$usable" 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Found no Python 3.11 to 3.14 that has the module venv (Debian: apt install python3-venv)." >&2; \
	  echo "Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; \
	  exit 2; \
	fi; \
	if ! $(BIN)/python -c "$$usable" 2>/dev/null; then \
	  echo "Making $(VENV) with $$("$$python" --version)"; \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV); \
	fi
	echo "Installing into $(VENV); the first time takes some minutes, torch is large"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist
