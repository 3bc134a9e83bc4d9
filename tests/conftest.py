"""Shared fixtures. No global seed: every test says which numbers it draws."""

import os
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import wgflow
from wgflow.base.errors import BackendError
from wgflow.kernels.gpu import device as devices
from wgflow.kernels.reference import Reference
from wgflow.model.activations import ACTIVATIONS
from wgflow.model.depth import Network

# The first call of a kernel compiles it, so no deadline; CI always tries the same examples.
settings.register_profile(
    "wgflow", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("wgflow")


def pytest_runtest_setup(item):
    """Skip what needs a CUDA device where there is none, and what stands in for one where that is not to be had."""
    if item.get_closest_marker("gpu") is not None:
        try:
            devices.current()
        except BackendError as error:
            pytest.skip(str(error))
    elif reason := getattr(item.module, "HOST_LACKS", ""):
        pytest.skip(reason)


PATIENCE = 600  # seconds: not how long anything takes, but when a test that will never end is given up


@pytest.fixture(scope="session")
def wait_until():
    """Wait for an event, however slow the machine: poll a condition until it holds."""

    def wait(condition, process=None):
        given_up = time.monotonic() + PATIENCE
        while not (found := condition()):
            assert process is None or process.poll() is None, f"the process ended with {process.returncode} before"
            assert time.monotonic() < given_up, "waited in vain"
            time.sleep(0.005)
        return found

    return wait


STRUCK = """
import os, sys
from wgflow.sims import run
from wgflow.trajectory import TrajectoryWriter

number, left = int(sys.argv[1]), int(sys.argv[2])
append = TrajectoryWriter.append

def struck(self, frame):
    global left
    append(self, frame)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), number)

TrajectoryWriter.append = struck
sys.exit(run.main(sys.argv[3:]))
"""


@pytest.fixture(scope="session")
def struck():
    """Run the command in a process that sends itself a signal once it has committed so many frames (with one job)."""

    def start(number, frames, *arguments, **options):
        command = [sys.executable, "-c", STRUCK, str(int(number)), str(frames), *map(str, arguments)]
        return subprocess.Popen(command, **options)

    return start


@pytest.fixture
def rng():
    return np.random.default_rng(20261121)


@pytest.fixture(params=sorted(ACTIVATIONS))
def activation(request):
    return request.param


STEP = 1e-30  # imaginary part of a complex step; its square is nothing


def shape(name, layers, u):
    """Weights of Deposit's layers at u = L tau - 1/2, complex: a quadratic spline made from the averages g_k of layers.

    Clipped, its coefficients are the g_k, outside those of the outermost layers. Otherwise they are g_k less a sixth of
    their second difference; averages of layers outside are those of the quadratic with the averages of the three outer
    layers.
    """

    def spline(k):
        d = (u - k) * np.sign((u - k).real)
        return 0.75 - d**2 if d.real < 0.5 else 0.5 * (1.5 - d) ** 2 if d.real < 1.5 else 0.0 * d

    if layers == 1:
        return {0: 1.0 + 0 * u}
    if name == "clipped":
        outer = [sum(map(spline, nodes)) for nodes in ([-2, -1, 0], [layers - 1, layers, layers + 1])]
        return {0: outer[0], layers - 1: outer[1]} | {k: spline(k) for k in range(1, layers - 1)}
    if name == "hat" or layers == 2:
        k = min(max(int(np.floor(u.real)), 0), layers - 2)
        return {k: 1 - (u - k), k + 1: u - k}

    def averages(nodes):  # of 1, u, u**2 in these layers
        edges, power = np.array(nodes)[:, None] - 0.5, np.arange(1, 4)
        return ((edges + 1) ** power - edges**power) / power

    extended = np.zeros((layers + 4, layers))  # rows: layers -2..L+1
    extended[2:-2] = np.eye(layers)
    extended[:2, :3] = averages([-2, -1]) @ np.linalg.inv(averages([0, 1, 2]))
    extended[-2:, -3:] = averages([layers, layers + 1]) @ np.linalg.inv(averages([layers - 3, layers - 2, layers - 1]))
    coefficients = extended[1:-1] - np.diff(extended, 2, axis=0) / 6  # of layers -1..L
    out = {}
    for k, row in enumerate(coefficients, start=-1):
        for node in np.flatnonzero(row * (spline(k) != 0)):
            out[node] = out.get(node, 0) + row[node] * spline(k)
    return out


def spread(spec, tau, mass):
    """Particle, depth and share of points that stand for intervals under Deposit: four Gauss points in each layer."""
    nodes, shares = np.polynomial.legendre.leggauss(4)
    out = []
    for i, (place, weight) in enumerate(zip(tau, mass, strict=True)):
        width = spec.get("width", 1.0) * weight
        width = width if np.real(width) < 1 else 1.0
        ends = [(1 - width) * place, (1 - width) * place + width]
        edges = [k / spec["layers"] for k in range(1, spec["layers"])]
        cuts = [ends[0], *(edge for edge in edges if np.real(ends[0]) < edge < np.real(ends[1])), ends[1]]
        if width == 0:
            out.append((i, place, 1.0))
        for a, b in pairwise(cuts) if width != 0 else ():
            out += [
                (i, (a + b) / 2 + (b - a) / 2 * x, share / 2 * (b - a) / width)
                for x, share in zip(nodes, shares, strict=True)
            ]
    particle, t, share = (np.array(column) for column in zip(*out, strict=True))
    return particle.astype(int), t, share


def network(spec, tau, mass):
    """The layers of a scheme, written down again from the definitions; tau and mass may be complex."""
    if spec["name"] == "intervals":
        particle, t, share = spread(spec, tau, mass)
        net = network({"name": "deposit", "layers": spec["layers"]}, t, mass[particle] * share)
        return net._replace(particle=particle[net.particle])
    count, real = len(tau), np.real(tau)
    if spec["name"] == "gaps":
        order = np.argsort(real, kind="stable")
        return Network(np.arange(count + 1), order, np.diff(tau[order], prepend=0.0))
    if spec["name"] == "shallow":
        return Network(np.array([0, count]), np.arange(count), mass)
    layers = spec["layers"]
    entries = [[] for _ in range(layers)]
    for i in range(count):
        if spec["name"] == "layers":
            entries[min(int(real[i] * layers), layers - 1)].append((i, mass[i]))
            continue
        for node, share in shape(spec.get("shape"), layers, layers * tau[i] - 0.5).items():
            entries[node].append((i, mass[i] * share))
    first = np.cumsum([0] + [len(layer) for layer in entries])
    flat = [entry for layer in entries for entry in layer]
    return Network(first, np.array([i for i, _ in flat], int), np.array([w for _, w in flat]))


def complex_energy(problem, spec, theta, tau, mass):
    """E from the definition, with complex arguments."""
    return Reference(problem).energy(network(spec, tau, mass), theta)


def complex_gradient(problem, spec, rho, variable):
    """dE in one of theta, tau, mass by complex steps of the definition, exact to rounding."""
    arrays = {name: getattr(rho, name).astype(complex) for name in ("theta", "tau", "mass")}
    gradient = np.empty(arrays[variable].shape)
    for where in np.ndindex(gradient.shape):
        moved = {name: array.copy() for name, array in arrays.items()}
        moved[variable][where] += STEP * 1j
        gradient[where] = complex_energy(problem, spec, **moved).imag / STEP
    return gradient


@pytest.fixture(scope="session")
def by_complex_step():
    return complex_gradient


@pytest.fixture(scope="session")
def defined_energy():
    return complex_energy


@pytest.fixture(scope="session")
def defined_network():
    return network


@pytest.fixture(scope="session")
def defined_spread():
    return spread


SCHEMES = [
    {"name": "gaps"},
    {"name": "layers", "layers": 3},
    {"name": "deposit", "layers": 4, "shape": "spline"},
    {"name": "deposit", "layers": 4, "shape": "clipped"},
    {"name": "deposit", "layers": 4, "shape": "hat"},
    {"name": "shallow"},
]


@pytest.fixture(params=SCHEMES, ids=lambda spec: spec.get("shape", spec["name"]))
def scheme(request):
    return request.param


BLOCKS = [
    {"name": "ridge", "bias": True},
    {"name": "matrix", "bias": True},
    {"name": "matrix", "bias": False},
    {"name": "two_layer", "hidden": 3, "bias": True},
    {"name": "two_layer", "hidden": 2, "bias": False},
    {"name": "scaled_matrix", "bias": True},
]


@pytest.fixture(params=BLOCKS, ids=lambda spec: "-".join(map(str, spec.values())))
def block(request):
    return request.param


def make_case(
    rng, particles=6, samples=7, width=3, block="ridge", activation="tanh", outputs=1, loss="squared", scheme=None
):
    """A random problem and measure with distinct depths, and with equal masses in layers where the scheme wants it."""
    y = rng.normal(size=(samples, outputs))
    if loss == "cross_entropy":
        y = rng.dirichlet(np.ones(outputs), samples)
    readout = rng.normal(size=(outputs, width))
    problem = wgflow.Problem(rng.normal(size=(samples, width)), y, block, activation, readout=readout, loss=loss)
    theta = rng.normal(size=(particles, problem.shape[3])) * 0.7
    if (scheme or {}).get("name") == "layers":
        return problem, wgflow.Particles(theta, (rng.permutation(particles) + 0.5) / particles)
    tau = (rng.permutation(particles) + rng.uniform(0.1, 0.9, particles)) / particles
    return problem, wgflow.Particles(theta, tau, rng.uniform(0.5, 1.5, particles) / particles)


@pytest.fixture
def case(rng):
    def build(**options):
        return make_case(rng, **options)

    return build
