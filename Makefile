# make demo and make test set up what they need in .venv; both run without root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .peers

.PHONY: demo test peers compiled mutants coverage lint clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("meshnode needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(STAMP)
	@$(BIN)/meshnode demo $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

# What the benchmarks and a few tests compare with, apart from the environment of the tests: some pin old packages.
peers: $(PEERS)/.installed

$(PEERS)/.installed: pyproject.toml benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -e . -r benchmarks/peers.txt
	touch $@

# The same code with cores compiled (a C compiler is needed), and their tests on it. What was built is
# in build/wheel, and in build/compiled-tree, where benchmarks run it.
TREE := build/compiled-tree
compiled: $(STAMP)
	rm -rf build/wheel $(TREE) && mkdir -p $(TREE)
	MESHNODE_COMPILE=1 $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel .
	$(BIN)/python -m zipfile -e build/wheel/*.whl $(TREE)
	cp -r tests benchmarks conftest.py pyproject.toml $(TREE)
	cd $(TREE) && $(CURDIR)/$(BIN)/python -m pytest tests/consensus tests/conformance tests/membership tests/partitions $(ARGS)

# Mistakes made on purpose, and what of the simulator finds them: an hour or two of one core.
mutants: $(STAMP)
	$(BIN)/python -m tests.mutants $(ARGS)

# Branch coverage of what must be right: membership, consensus, placement, partitions, metadata.
coverage: $(STAMP)
	$(BIN)/coverage run -m pytest -q tests/membership tests/consensus tests/placement tests/partitions tests/journal tests/metadata tests/node $(ARGS)
	$(BIN)/coverage report --skip-covered --fail-under=95

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
