"""Cases of the benchmarks: sizes, and the same arrays for every program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import wgflow
from wgflow.model import activations
from wgflow.model import depth as depths


class Case(NamedTuple):
    """One problem: squared loss, ridge blocks with tanh, one output, standard normal data and readout.

    Attributes
    ----------
    scheme : {"gaps", "layers", "deposit", "shallow"}
        One particle a layer with its gap as weight; ``layers`` layers of N / layers particles; particles that each
        share their mass between two of ``layers`` layers; or one layer of all particles.
    particles, samples, width : int
        N, M, D.
    layers : int
        L under ``layers`` and ``deposit``.
    batch : int
        Rows of a minibatch, the first ones; 0 for all.
    plain : bool
        Whether the network is the one of published NumPy loops: no bias, and the state itself, D numbers, as output.
    """

    scheme: str
    particles: int
    samples: int
    width: int
    layers: int = 0
    batch: int = 0
    plain: bool = False

    @property
    def label(self) -> str:
        """Label in tables."""
        sizes = f"N, M, D = {self.particles}, {self.samples}, {self.width}"
        layers = f", L = {self.layers}" if self.layers else ""
        return f"{self.scheme.capitalize()} {sizes}{layers}" + (f", minibatch of {self.batch}" if self.batch else "")

    @property
    def flops(self) -> int:
        """Multiplications and additions in the products with the state: 14 N M D under Gaps, 12 N M D under Layers."""
        samples = self.batch or self.samples
        return (14 if self.scheme == "gaps" else 12) * self.particles * samples * self.width


class Arrays(NamedTuple):
    """A case's arrays, particles in the order in which the network has them.

    Attributes
    ----------
    start, target, readout : ndarray (M, D), (M, K), (K, D)
    a, w, b, weight : ndarray (N, D), (N, D), (N,), (N,)
        Particle i adds weight_i a_i tanh(w_i . x + b_i); b = 0 in a plain network.
    """

    start: np.ndarray
    target: np.ndarray
    readout: np.ndarray
    a: np.ndarray
    w: np.ndarray
    b: np.ndarray
    weight: np.ndarray


def measure(
    case: Case, activation: str | activations.Activation = "tanh"
) -> tuple[wgflow.Problem, wgflow.Particles, depths.Depth]:
    """The case as wgflow's users would write it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.samples, case.width))
    if case.plain:
        y, readout = rng.normal(size=x.shape), np.eye(case.width)
    else:
        y, readout = rng.normal(size=case.samples), rng.normal(size=(1, case.width))
    block = {"name": "ridge", "bias": not case.plain}
    problem = wgflow.Problem(x, y, readout=readout, block=block, activation=activation)
    if case.scheme == "layers":
        depth = wgflow.Layers(case.layers)
        return problem, wgflow.Particles.draw_layers(problem, case.layers, case.particles // case.layers), depth
    depth = {"gaps": wgflow.Gaps, "shallow": wgflow.Shallow}.get(case.scheme, lambda: wgflow.Deposit(case.layers))()
    return problem, wgflow.Particles.draw(problem, case.particles, tau="uniform"), depth


def arrays(case: Case) -> Arrays:
    """Arrays of the case for other programs."""
    problem, rho, depth = measure(case)
    net, width = depth.network(rho), case.width
    theta = rho.theta[net.particle]
    rows = slice(case.batch or None)
    bias = np.zeros(len(theta)) if case.plain else theta[:, -1]
    return Arrays(
        np.ascontiguousarray(problem.start()[rows]),
        np.ascontiguousarray(problem.y[rows]),
        problem.readout,
        *(np.ascontiguousarray(part) for part in (theta[:, :width], theta[:, width : 2 * width], bias)),
        weight=net.weight,
    )
