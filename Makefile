# make demo   train, evaluate and show VJE on scikit-learn's digits
# make test   the test suite
# make test-second   kills, executed notebooks and the wheel
# make docs   the documentation as a site
# Both first set up .venv, once, from the pinned versions in constraints.txt.

# The first of these that runs and is 3.11 or newer (docs/reference/versions.md: what was tested).
RIGHT_VERSION := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(RIGHT_VERSION)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# A file of tests to each core …
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist loadfile
# … in which torch would take all cores again.
test test-second test-slow: export OMP_NUM_THREADS := 1

.PHONY: demo test test-second test-slow docs lint bench studies gpu results clean

demo: $(VENV)/.installed
	$(BIN)/vje demo

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Kills, executed notebooks and the wheel: slow, and continuous integration runs them.
test-second: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS) \
		tests/docs/test_notebooks.py tests/docs/test_swapping.py tests/training/test_kills.py tests/test_wheel.py \
		$(addprefix tests/experiments/test_processes.py::test_,a_killed_process_is_started_again \
		ctrl_c_saves_and_says_how_to_go_on)

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

# The documentation as a site, build/docs/index.html; needs no internet, and a warning is an error.
docs: $(VENV)/.installed
	$(BIN)/python -m sphinx -W --keep-going -q -j auto docs build/docs

lint: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# Cost of a step in time, memory and communication; writes docs/results/benchmarks.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.counts memory
	$(BIN)/python -m benchmarks.counts communication

# What is missing of the studies that need no GPU; needs CIFAR-10 (VJE_DATA or data/). Days on a CPU,
# and it can be stopped and started at will.
studies: $(VENV)/.installed
	for name in reference ablation recipe objectives methods; do \
		$(BIN)/python -m studies run $$name; done

# What is left of the list of a GPU (docs/gpu.md); hours, and it can be stopped and started at will.
gpu: $(VENV)/.installed
	$(BIN)/python -m studies next --device cuda

# Rewrites the tables and pictures of the README and of the pages from docs/results.
results: $(VENV)/.installed
	$(BIN)/python -m studies tables

# Installed anew only when the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(RIGHT_VERSION)' \
		|| { echo "vje-pyro needs Python 3.11 or newer; give one with make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
