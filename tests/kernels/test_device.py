"""What only a device can show: the CUDA kernels there, against the NumPy definition, with the same bits every time."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gpu import CASES, TOLERANCE, close, drawn, evaluations, off

from wgflow.kernels.gpu import persistent
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.reference import Reference

pytestmark = pytest.mark.gpu


@settings(max_examples=500)
@given(**CASES, layered=st.booleans(), batch=st.booleans())
def test_device_equals_the_definition(layered, batch, **case):
    problem, net, theta = drawn(**case)
    rows = np.random.default_rng(case["seed"]).integers(0, case["samples"], 7) if batch else None
    wanted = evaluations(Reference(problem), problem, net, theta, rows)
    for dtype in TOLERANCE:
        gpu = Gpu(problem, dtype, layered=layered)
        found = evaluations(gpu, problem, net, theta, rows)
        assert close(found, wanted, dtype, problem, net, theta, rows)
        again = evaluations(gpu, problem, net, theta, rows)
        assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@cache
def large(width):
    """A problem with more samples than the blocks of a large device take at a time, and what the definition says."""
    problem, net, theta = drawn(0, "gaps", "ridge", 70, 20_000, width, 2)
    return problem, net, theta, evaluations(Reference(problem), problem, net, theta)


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("tile", persistent._TILES)
@pytest.mark.parametrize("width", [4, 16, 64, 300])
def test_many_tiles_of_every_size_and_width(monkeypatch, width, tile, dtype):
    """All blocks that a device has room for, each with several tiles, and as many threads as they get."""
    problem, net, theta, wanted = large(width)
    monkeypatch.setattr(persistent, "_TILES", (tile,))
    gpu = Gpu(problem, dtype, layered=False)
    if not gpu._persistent.fits:
        pytest.skip("a tile that does not fit")
    found = evaluations(gpu, problem, net, theta)
    assert off(found, wanted) < TOLERANCE[dtype]
    again = evaluations(gpu, problem, net, theta)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
def test_wide_layers_of_many_samples(dtype):
    problem, net, theta = drawn(0, "layers", "ridge", 600, 40_000, 96, 2, layers=3)
    found = evaluations(Gpu(problem, dtype, layered=True), problem, net, theta)
    assert off(found, evaluations(Reference(problem), problem, net, theta)) < TOLERANCE[dtype]
