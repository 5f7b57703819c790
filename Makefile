# make run    set up everything, run the quick-start experiment, print its results and where to look
# make test   set up everything, run the tests
# make help   everything else
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
# A base interpreter is looked for under its exact name first; `make PYTHON=/path/to/python3.11` overrides.
ifeq ($(shell command -v $(PYTHON) 2>/dev/null),)
PYTHON := python3
endif
READY  := $(VENV)/.ready
MINUTES ?= 10

.PHONY: help setup run test test-slow faults soak check docs audit format lock clean-venv

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY)  ## create .venv with every locked package (nothing to do the second time)

$(READY): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"quorumlab needs Python 3.11, and $(PYTHON) is {v[0]}.{v[1]}: install python3.11 (with its venv module) or run make PYTHON=/path/to/python3.11")'
	@echo "setting up $(VENV) (once, a few minutes on a slow line)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock requirements-bootstrap.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "ready: source $(VENV)/bin/activate"

run: setup  ## run the quick-start experiment (100 nodes, three points, ten replicates)
	@$(BIN)/quorumlab run +study=quickstart

test: setup  ## run the tests
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: setup  ## run the long tests
	@$(BIN)/python -m pytest -m slow

faults: setup  ## kill, stop and starve the program at every named place
	@$(BIN)/python -m pytest -m faults tests/faults -n auto --maxprocesses 2

soak: setup  ## break the program at random for MINUTES (10): what was injected, lost, doubled
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) $(SOAK)

check: setup  ## format, lint, types, layers, security, documentation
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml flows tasks sim_core deployments
	@$(MAKE) --no-print-directory docs
	@$(MAKE) --no-print-directory audit

docs: setup  ## build the documentation as a site, into site/
	@told=$$(NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file deployments/mkdocs.yml --site-dir $(CURDIR)/site 2>&1) || { echo "$$told"; exit 1; } # --quiet keeps warnings from being counted

audit: setup  ## look the locked packages up among known vulnerabilities, where the network allows
	@found=$$($(BIN)/pip-audit --disable-pip --require-hashes --requirement requirements.lock --progress-spinner off --timeout 10 2>&1); \
	case "$$found" in \
	*"known vulnerabilit"*) echo "$$found" | grep -vE "could not be audited|^Name |^---"; \
		echo "$$(echo "$$found" | grep -c "could not be audited") packages are not known where it was looked"; case "$$found" in *"No known"*) ;; *) exit 1 ;; esac ;; \
	*) echo "packages were not audited: $$(echo "$$found" | tail -n 1)" ;; \
	esac

format: setup  ## rewrite the code in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: setup  ## resolve requirements.lock again from pyproject.toml
	@$(BIN)/uv pip compile --quiet --upgrade --extra dev --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock

clean-venv:  ## remove .venv
	@rm -rf $(VENV)
