# make demo   train, evaluate and show VJE on scikit-learn's digits
# make test   the test suite
# Both first set up .venv, once, from the pinned versions in constraints.txt.

# The first of these that runs and is 3.11 or 3.12.
RIGHT_VERSION := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python; do \
	$$p -c '$(RIGHT_VERSION)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# A file of tests to each core …
PYTEST_ARGS ?= -n auto --maxprocesses 8 --dist loadfile
# … in which torch would take all cores again.
test test-slow: export OMP_NUM_THREADS := 1

.PHONY: demo test test-slow lint bench study ablation recipe gpu-suite results clean

demo: $(VENV)/.installed
	$(BIN)/vje demo

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# Cost of a step in time, memory and communication; writes docs/results/benchmarks.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/communication.py
	$(BIN)/python benchmarks/performance.py

# The small CIFAR-10 study, three seeds; needs the data set (VJE_DATA or data/).
study: $(VENV)/.installed
	$(BIN)/python benchmarks/study.py

# What is missing of the ablation of the model, on the same data; hours on a CPU.
ablation: $(VENV)/.installed
	$(BIN)/python benchmarks/ablation.py

# What is missing of the screening of the recipe, on the same data; hours on a CPU.
recipe: $(VENV)/.installed
	$(BIN)/python benchmarks/recipe.py
	$(BIN)/python benchmarks/recipe.py --variants centre --features batch-norm posterior-mean

# What is left of the GPU suite (docs/gpu.md); hours, and it can be stopped and started at will.
gpu-suite: $(VENV)/.installed
	$(BIN)/python benchmarks/gpu_suite.py --next --minutes 1000

# Rewrites the tables of the README and of the pages from docs/results.
results: $(VENV)/.installed
	$(BIN)/python benchmarks/readme_table.py
	$(BIN)/python benchmarks/readme_table.py --results docs/results/ablation --readme docs/ablation.md
	$(BIN)/python benchmarks/ood_table.py
	$(BIN)/python benchmarks/posterior_table.py
	$(BIN)/python benchmarks/heads_table.py
	$(BIN)/python benchmarks/faults_table.py
	$(BIN)/python benchmarks/recipe_table.py
	$(BIN)/python benchmarks/methods_table.py
	$(BIN)/python benchmarks/performance_table.py
	$(BIN)/python benchmarks/campaigns_table.py

# Installed anew only when the requirements change.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(RIGHT_VERSION)' \
		|| { echo "vje-pyro needs Python 3.11 or 3.12; give one with make PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
