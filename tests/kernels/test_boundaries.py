"""Compiled kernels at the edges of groups, tiles, vectors, blocks and chunks; in float32; with checked indices."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wgflow
from wgflow.base.errors import InputError
from wgflow.kernels.cpu import chunks
from wgflow.kernels.cpu import grouped as cpu
from wgflow.kernels.select import select
from wgflow.model.activations import ACTIVATIONS

DEPTHS = {
    "gaps": wgflow.Gaps(), "layers": wgflow.Layers(3), "deposit": wgflow.Deposit(4), "intervals": wgflow.Intervals(4),
    "shallow": wgflow.Shallow(),
}  # fmt: skip


def draw(seed, particles, samples, width, block="ridge", activation="tanh", outputs=2):
    """A random problem of states of order one, and particles evenly spread in depth."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(samples, outputs))
    readout = rng.normal(size=(outputs, width)) / width**0.5
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, activation, readout=readout)
    theta = rng.normal(size=(particles, problem.shape[3])) / (width**0.5 + particles**0.25)
    return problem, wgflow.Particles(theta, (np.arange(particles) + 0.5) / particles)


@contextlib.contextmanager
def many_chunks():
    """Small problems divided like large ones: into chunks for several threads, none of them serial."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_WORK", 1)
        patch.setattr(chunks, "_BLOCK", 16)
        patch.setattr(cpu, "_SERIAL", 0)
        patch.setattr(cpu, "_GROUPS", 2)
        yield


def check(problem, rho, depth, bound=1e-12, **options):
    slow, fast = wgflow.Energy(problem, depth, "reference"), wgflow.Energy(problem, depth, **options)
    a, b = slow.velocity(rho), fast.velocity(rho)
    for left, right in ((a.theta, b.theta), (a.tau, b.tau), (a.energy, b.energy), (a.energy, fast(rho))):
        np.testing.assert_allclose(right, left, rtol=0, atol=bound * (1 + np.abs(left).max()))


def check_threads(problem, rho, depth, dtype):
    one, *others = [wgflow.Energy(problem, depth, dtype=dtype, threads=count).velocity(rho) for count in (1, 2, 3, 4)]
    for other in others:
        assert other.energy == one.energy
        assert np.array_equal(other.theta, one.theta)
        assert np.array_equal(other.tau, one.tau)


@pytest.mark.parametrize("particles", [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 129])
def test_numbers_of_particles(particles):
    problem, rho = draw(particles, particles, 20, 16)
    for name, depth in DEPTHS.items():
        if name != "layers" or particles % 3 == 0:
            check(problem, rho, depth)


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1025])
def test_numbers_of_samples(samples):
    problem, rho = draw(samples, 9, samples, 5)
    for depth in DEPTHS.values():
        check(problem, rho, depth)
        with many_chunks():  # 1025 samples: chunks of 72, the last one of 17
            check(problem, rho, depth)
            check(problem, rho, depth, 1e-5, dtype="float32")


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 9, 16, 17, 31, 32, 33, 65, 128, 129])
def test_widths(width):
    problem, rho = draw(width, 66, 11, width)
    for depth in DEPTHS.values():
        check(problem, rho, depth)


@pytest.mark.parametrize("block", ["matrix", "two_layer"])
@pytest.mark.parametrize("width", [1, 3, 4, 5, 8, 33, 65])
def test_blocks_of_many_units(block, width):
    problem, rho = draw(width, 6, 11, width, block)
    for depth in DEPTHS.values():
        check(problem, rho, depth)


@pytest.mark.parametrize("outputs", [1, 3, 4, 5, 9])
def test_numbers_of_outputs(outputs):
    problem, rho = draw(outputs, 6, 11, 3, outputs=outputs)
    check(problem, rho, wgflow.Gaps())


@pytest.mark.parametrize("block", ["ridge", "matrix", "two_layer"])
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_float32_is_as_near_as_its_digits(activation, block):
    problem, rho = draw(0, 30, 300, 9, block, activation)
    for depth in DEPTHS.values():
        check(problem, rho, depth, 1e-5, dtype="float32")


def test_float32_finds_nan():
    problem, rho = draw(0, 5, 20, 3)
    theta = rho.theta.copy()
    theta[2, 1] = np.nan
    energy, first, _ = select("cpu", problem, dtype="float32").gradient(wgflow.Gaps().network(rho), theta)
    assert np.isnan(energy)
    assert np.isnan(first).any()


def test_float32_is_part_of_the_spec():
    problem, rho = draw(0, 5, 20, 3)
    energy = wgflow.Energy(problem, dtype="float32")
    again = wgflow.Energy.from_spec(energy.spec(), problem.arrays())
    assert again.dtype == "float32"
    assert again(rho) == energy(rho) != wgflow.Energy(problem)(rho)


@pytest.mark.parametrize("sample", [0, 7, 8, 40])
def test_a_sample_that_overflows_is_not_smoothed_over(sample):
    """The last samples share their vector with lanes that hold nothing."""
    x = np.zeros((41, 2))
    x[sample] = 1e200
    problem = wgflow.Problem(x, np.zeros(41), activation="squared_relu")
    rho = wgflow.Particles(np.ones((3, 5)), [0.2, 0.5, 1.0])
    for backend in ("reference", "cpu"):
        with np.errstate(over="ignore", invalid="ignore"):
            velocity = wgflow.Energy(problem, backend=backend).velocity(rho)
        assert not np.isfinite(velocity.energy)
        assert not np.isfinite(velocity.theta).all()


@settings(max_examples=30)
@given(
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.integers(1, 700),
    st.integers(1, 9),
    st.sampled_from(sorted(set(DEPTHS) - {"layers"})),
    st.sampled_from(["ridge", "matrix", "two_layer"]),
    st.sampled_from(["float64", "float32"]),
)
def test_same_bits_for_any_number_of_threads(seed, particles, samples, width, depth, block, dtype):
    """Threads are a pool of wgflow's own, so their number is set here and not by NUMBA_NUM_THREADS."""
    problem, rho = draw(seed, particles, samples, width, block)
    with many_chunks():
        check_threads(problem, rho, DEPTHS[depth], dtype)


def test_same_bits_for_any_number_of_threads_when_all_of_them_work():
    problem, rho = draw(0, 500, 3000, 16)
    check_threads(problem, rho, wgflow.Gaps(), "float64")


def test_energies_used_from_several_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    problem, rho = draw(0, 100, 600, 9)
    energy = wgflow.Energy(problem, threads=3)
    alone = energy.velocity(rho)
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(lambda _: energy.velocity(rho), range(40)):
            assert np.array_equal(other.theta, alone.theta)


SCRIPT = """
import numpy as np, wgflow
from wgflow.kernels.cpu import matmul_tiles
rng = np.random.default_rng(0)
for sizes, block in (((1, 1, 1), "ridge"), ((37, 150, 5), "ridge"), ((70, 9, 33), "ridge"), ((5, 20, 3), "matrix")):
    particles, samples, width = sizes
    problem = wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=samples), block, "gelu")
    theta = 0.3 * rng.normal(size=(particles, problem.shape[3]))
    rho = wgflow.Particles(theta, rng.uniform(size=particles))
    for depth in ("gaps", {"name": "deposit", "layers": 3}):
        a, b = (wgflow.Energy(problem, depth, backend).velocity(rho) for backend in ("reference", "cpu"))
        np.testing.assert_allclose(b.theta, a.theta, atol=1e-12)
        np.testing.assert_allclose(b.tau, a.tau, atol=1e-12)
        single = wgflow.Energy(problem, depth, dtype="float32").velocity(rho)
        np.testing.assert_allclose(single.theta, a.theta, atol=1e-4)
        wgflow.Energy(problem, depth)(rho)
print("checked", matmul_tiles.CHECKED, "bytes", matmul_tiles.BYTES)
"""


def run(tmp_path, **environment):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | environment
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_index_leaves_its_array(tmp_path):
    assert "checked True" in run(tmp_path, NUMBA_BOUNDSCHECK="1")


def test_tiles_for_processors_with_shorter_vectors(tmp_path):
    features = "+avx,+avx2,+fma,+bmi,+bmi2,+sse2"
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the features named are those of x86")
    assert "bytes 32" in run(tmp_path, NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES=features)


def test_tiles_check_their_corners():
    """What NUMBA_BOUNDSCHECK turns on does find a product that leaves its array."""
    from wgflow.kernels.cpu import matmul_tiles

    inside, beyond = np.zeros((8, 16)), np.zeros((7, 16))
    check = matmul_tiles.within.py_func
    check(inside, 7 * 16 + 15)
    with pytest.raises(IndexError, match="beyond its array"):
        check(beyond, 7 * 16 + 15)


def test_a_scheme_of_your_own_cannot_send_the_kernel_past_the_end():
    class Wrong(wgflow.Shallow):
        def network(self, rho):
            return super().network(rho)._replace(particle=np.array([0, 1, 7]))

    problem, rho = draw(0, 3, 5, 2)
    with pytest.raises(InputError, match="got 3 with 3 weights, up to particle 7"):
        wgflow.Energy(problem, Wrong())(rho)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_masses_of_zero_and_targets_column_by_column(dtype):
    rng = np.random.default_rng(0)
    y = np.asfortranarray(rng.dirichlet(np.ones(3), 40))
    problem = wgflow.Problem(rng.normal(size=(40, 4)), y, loss="cross_entropy", readout=rng.normal(size=(3, 4)))
    rho = wgflow.Particles(
        0.5 * rng.normal(size=(9, 9)), rng.uniform(size=9), [0.0, 0.2, 0.0, 0.1, 0.1, 0.2, 0.2, 0.2, 0]
    )
    for depth in (wgflow.Deposit(3), wgflow.Shallow()):
        check(problem, rho, depth, 1e-12 if dtype == "float64" else 1e-5, dtype=dtype)
