PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench lint format clean

demo: .venv/.toy  ## Set up, then the whole way on the embedded corpus.
	$(BIN)/bench demo demo

test: lint  ## Set up, check the code, run the tests.
	$(BIN)/python -m pytest

slow: .venv/.dev  ## The tests that take minutes.
	$(BIN)/python -m pytest -m slow

bench: .venv/.dev  ## The speed claims, each as a ratio measured in one run.
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

lint: .venv/.dev  ## Style, types, import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build *.egg-info

.venv/.pip:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

.venv/.toy: .venv/.pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[toy,dlib]"
	touch $@

.venv/.dev: .venv/.pip pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[toy,hf,dlib,onnx,dev]"
	touch $@ .venv/.toy
