# Everything runs in .venv, built from constraints.txt; the only requirements are Python >= 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
# TORCH=1 adds PyTorch, which on most systems brings gigabytes; without it the tests of wgflow.cifar show as skipped.
COMMA := ,
EXTRAS := study,test$(if $(TORCH),$(COMMA)cifar)
READY := .venv/.ready$(if $(TORCH),-torch)
# `make test GPU=1` also compiles the CUDA kernels, for which no device is needed: CuPy and NVIDIA's compiler come along.
WITH_GPU := $(if $(GPU),.venv/.ready-gpu)

.PHONY: study test test-slow test-latest lint types bench clean

study: $(READY)
	$(BIN)/python -m wgflow.sims.run

test: $(READY) $(WITH_GPU)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY) $(WITH_GPU)
	$(BIN)/python -m pytest

test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade -e ".[study,test]"
	.venv-latest/bin/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/run.py

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wgflow needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $@

.venv/.ready-gpu: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt cupy-cuda12x nvidia-cuda-nvrtc-cu12
	@touch $@

clean:
	rm -rf .venv .venv-latest .mypy_cache .pytest_cache .ruff_cache .hypothesis
