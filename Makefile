# Everything a developer runs. `make` alone lists it.
#
# What `setup` makes is stamped, so a second run installs nothing and needs no network.

VENV     := .venv
BIN      := $(VENV)/bin
TOOLS    := .tools
PYTHON_SOURCES := blobfs mountd tests benchmarks scripts

# pip builds with what build.lock installed: it fetches nothing that has no hash.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation

BUILD_STAMP   := $(VENV)/.stamp-build
LOCKED_STAMP  := $(VENV)/.stamp-locked
PROJECT_STAMP := $(VENV)/.stamp-project
AZURITE_STAMP := $(TOOLS)/.stamp-azurite

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test check bench soak format lock clean system-packages

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(PROJECT_STAMP) $(AZURITE_STAMP)  ## install what is missing: system packages, .venv, .tools

demo: $(PROJECT_STAMP)  ## mount sample data and show what was, and was not, downloaded
	@$(BIN)/python scripts/demo.py

test: check $(AZURITE_STAMP)  ## everything that checks the project
	@$(BIN)/python -m pytest $(ARGS)

check: $(PROJECT_STAMP)  ## format, lint, types, layers: what needs no run
	@$(BIN)/ruff format --check $(PYTHON_SOURCES)
	@$(BIN)/ruff check $(PYTHON_SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(PROJECT_STAMP)  ## speed and memory beside their targets; ONLY=name, JSON=file
	@$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

soak: $(PROJECT_STAMP)  ## the long tests; ONLY="fio stress python kills hammer models fuzz"
	@scripts/soak.sh $(ONLY)

format: $(PROJECT_STAMP)  ## bring the sources into shape
	@$(BIN)/ruff format $(PYTHON_SOURCES)
	@$(BIN)/ruff check --fix $(PYTHON_SOURCES)

lock: $(PROJECT_STAMP)  ## write the lock files anew, with the newest versions
	@scripts/lock.sh

clean:  ## remove what setup and the tools made
	rm -rf $(VENV) $(TOOLS) build dist
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(PYTHON_SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

system-packages:
	@scripts/system-packages.sh

$(BUILD_STAMP): requirements/build.lock | system-packages
	@echo "making $(VENV)"
	@test -x $(BIN)/python || "$$(scripts/find-python.sh)" -m venv $(VENV)
	@$(PIP_INSTALL) --require-hashes -r requirements/build.lock
	@touch $@

$(LOCKED_STAMP): requirements/dev.lock $(BUILD_STAMP)
	@echo "installing requirements/dev.lock"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

$(PROJECT_STAMP): pyproject.toml $(LOCKED_STAMP)
	@$(PIP_INSTALL) --no-deps --no-index --editable .
	@touch $@

# Azurite is the Azure Blob server that the tests start. It lives outside of tests/, so that
# nothing that walks through the sources meets its 9,000 files.
$(AZURITE_STAMP): tests/azurite/package.json tests/azurite/package-lock.json | system-packages
	@echo "installing Azurite"
	@mkdir -p $(TOOLS)
	@cp tests/azurite/package.json tests/azurite/package-lock.json $(TOOLS)/
	@npm ci --prefix $(TOOLS) --silent --no-audit --no-fund --ignore-scripts
	@touch $@
