# Holdfast. `make demo` starts the app, `make test` runs the tests; both set up what they need
# in .venv the first time and start at once afterwards. Nothing outside this folder and
# the cache (~/.cache/holdfast, or $HOLDFAST_CACHE) is touched.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PORT ?= 7860
HOST ?= 127.0.0.1
PROFILE ?= embedded
PYTHON ?=

VENV := .venv
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --disable-pip-version-check --constraint constraints.txt
FETCHED := $(VENV)/.fetched-$(PROFILE)

.PHONY: help demo test lint screens clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(FETCHED) ## start the app (PORT=7860 HOST=127.0.0.1 PROFILE=embedded|hub)
	$(PY) app.py --host $(HOST) --port $(PORT) --profile $(PROFILE)

# Two processes with a thread each: the tests' tensors are too small for two cores to share. Files
# keep their order (tests/conftest.py says why).
test: $(VENV)/.installed-dev $(FETCHED) ## run the tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed-dev ## check the style
	$(PY) -m ruff check .

screens: $(VENV)/.installed-dev $(FETCHED) ## drive the app in a browser, write docs/screens/*.png
	HOLDFAST_SCREENS=1 $(PY) -m pytest -m "slow or not slow" tests/ui/test_browser.py $(ARGS)

clean: ## remove the virtual environment (the cache stays)
	rm -rf $(VENV)

# Picks the first interpreter that really runs and is new enough; PYTHON=… overrides.
$(PY):
	@found=""; \
	for candidate in $(PYTHON) python3.12 python3.13 python3.11 python3; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Holdfast needs Python 3.11, 3.12 or 3.13 and found none." >&2; \
	  echo "  Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; \
	  echo "  macOS:            brew install python@3.12" >&2; \
	  echo "then run make again, or name one: make demo PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$($$found --version)"; \
	rm -rf $(VENV); \
	if ! $$found -m venv $(VENV); then \
	  rm -rf $(VENV); \
	  echo "$$found cannot make a virtual environment." >&2; \
	  echo "  Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; \
	fi

$(VENV)/.installed: requirements.txt constraints.txt | $(PY)
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(INSTALL) -r requirements-dev.txt
	@touch $@

$(FETCHED): pipelines/fetch.py pipelines/profiles.py $(VENV)/.installed
	$(PY) -m pipelines.fetch --profile $(PROFILE)
	@touch $@
