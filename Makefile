# Everything a contributor or CI runs. Needs Python 3.11 or newer, and make; rsqlite, and the tools of
# all targets but demo, are installed into .venv by the first target that wants them.
#
#   make demo               three nodes, a killed leader, nothing lost; the exit code says if it held
#   make test               everything CI tests, about twelve minutes; T=raft for one floor
#   make quick              the same without the slow ones
#   make check              format, lint, types, import floors, house rules; changes nothing
#   make fix                formats, and repairs what the linter can
#   make accept MINUTES=10  real processes killed and paused at random under load; RUN=churn for
#                           changes of the members, RUN=images for followers that are left behind,
#                           RUN=disks for full, failing and hanging disks (as root), RUN=bounds for
#                           memory, log and restart
#   make accept-client      50,000 random calls in each of the client's shapes beside sqlite3; a
#                           writer while leaders are killed and paused
#   make sim SEEDS=100      whole clusters under faults on virtual time, a seed each; SEED=7 prints
#                           what happened in that one
#   make sweep              every call to the disk fails, is torn, or is a node's last one: 8,000 runs
#   make hunt SEEDS=100     bugs that others had are put back one at a time, for the simulator to find
#   make bench              how fast it is on this machine, beside what the machine could do

PYTHON ?= python3
VENV ?= .venv
T ?=
MINUTES ?= 10
SEEDS ?= 100
RUN ?= accept
ARGS ?=

BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# These share the cores, test by test or file by file. The others start clusters that must keep their
# leader, and run one at a time.
PARALLEL := tests/raft tests/storage tests/statemachine tests/transport tests/node tests/server \
	tests/client tests/embedded
BY_FILE := tests/cli tests/conformance tests/bench tests/testing
FLOORS := PYTHONPATH=.:client $(BIN)/lint-imports --no-logo

.DEFAULT_GOAL := help
.PHONY: help venv demo test quick check fix accept accept-client sim sweep hunt bench clean

help:
	@sed -n 's/^#   //p' Makefile

# Made anew when what it must hold has changed. A venv left half-made by an interrupted install
# has no stamp, and is made again.
$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rsqlite needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + "; name another one with make PYTHON=python3.11")'
	@echo "installing rsqlite and what it needs into $(VENV), once"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) -e '.[fast]'
	@touch $@

$(READY): $(RUNS)
	@echo "installing the tools for tests and checks into $(VENV), once"
	@$(INSTALL) -e '.[dev]'
	@touch $@

venv: $(READY)

demo: $(RUNS)
	@$(BIN)/python -m rsqlite.testing.demo

test: $(READY)
ifeq ($(T),)
	$(BIN)/python -m pytest $(PARALLEL) -n 2 -m 'not acceptance' $(ARGS)
	$(BIN)/python -m pytest $(BY_FILE) -n 2 --dist loadfile -m 'not acceptance' $(ARGS)
	$(BIN)/python -m pytest tests $(PARALLEL:%=--ignore=%) $(BY_FILE:%=--ignore=%) \
		-m 'not acceptance' $(ARGS)
else
	$(BIN)/python -m pytest tests/$(T) -m 'not acceptance' $(ARGS)
endif

quick: $(READY)
	$(BIN)/python -m pytest tests/$(T) -m 'not acceptance and not slow' $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(FLOORS)
	$(BIN)/codespell
	$(BIN)/python -m pytest -q tests/test_*.py

fix: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python tests/test_docs.py --rewrite

accept: $(READY)
	$(BIN)/python tests/e2e/$(RUN).py $(if $(filter accept churn,$(RUN)),--minutes $(MINUTES)) $(ARGS)

accept-client: $(READY)
	$(BIN)/python tests/client/test_differential.py --calls 50000
	$(BIN)/python tests/e2e/client_failover.py --kills 10 --pauses 10

sim: $(READY)
	$(BIN)/python -m rsqlite.testing.simulate \
		$(if $(SEED),--seed $(SEED) --trace,--seeds $(SEEDS)) $(ARGS)

sweep: $(READY)
	$(BIN)/python -m rsqlite.testing.sweep $(ARGS)

hunt: $(READY)
	$(BIN)/python -m tests.testing.hunt --seeds $(SEEDS) $(ARGS)

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
