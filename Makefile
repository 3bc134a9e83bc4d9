# Everything runs in .venv, built from constraints.txt; the only requirements are Python >= 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The study needs none of the tools that the tests need.
STUDY := .venv/.ready-study
# TORCH=1 adds PyTorch, which on most systems brings gigabytes; without it the tests of wgflow.systems.images show as skipped.
COMMA := ,
EXTRAS := study,test,cluster$(if $(TORCH),$(COMMA)cifar)
READY := .venv/.ready-test$(if $(TORCH),-torch)
# `make test GPU=1` also compiles the CUDA kernels, for which no device is needed: CuPy and NVIDIA's compiler come along.
WITH_GPU := $(if $(GPU),.venv/.ready-gpu)
# One worker a core; each takes the tests that follow one another, which share their fixtures, and helps out at the end.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: study test test-slow test-latest lint types bench clean

study: $(STUDY)
	$(BIN)/python -m wgflow run

test: $(READY) $(WITH_GPU)
	$(PYTEST) -m "not slow"

test-slow: $(READY) $(WITH_GPU)
	$(PYTEST)

test-latest:
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade -e ".[study,test,cluster]"
	.venv-latest/bin/python -m pytest -n auto --dist worksteal -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(READY)
	$(INSTALL) -e ".[bench]"
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/run.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "wgflow needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv .venv

$(STUDY): pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e ".[study]"
	@touch $@

$(READY): pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) -e ".[$(EXTRAS)]"
	@touch $@ $(STUDY)

.venv/.ready-gpu: $(READY)
	$(INSTALL) cupy-cuda12x nvidia-cuda-nvrtc-cu12
	@touch $@

clean:
	rm -rf .venv .venv-latest .mypy_cache .pytest_cache .ruff_cache .hypothesis
