"""What is timed: sizes, and the same arrays for every program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import wgflow


class Case(NamedTuple):
    """One problem: squared loss, ridge blocks with tanh, one output, standard normal data and readout.

    Attributes
    ----------
    scheme : {"gaps", "layers"}
        One particle a layer with its gap as weight, or ``layers`` layers of N / layers particles.
    particles, samples, width : int
        N, M, D.
    layers : int
        L under ``layers``.
    batch : int
        Rows of a minibatch, the first ones; 0 for all.
    """

    scheme: str
    particles: int
    samples: int
    width: int
    layers: int = 0
    batch: int = 0

    @property
    def label(self) -> str:
        """Words for tables."""
        sizes = f"N, M, D = {self.particles}, {self.samples}, {self.width}"
        layers = f", L = {self.layers}" if self.scheme == "layers" else ""
        return f"{self.scheme.capitalize()} {sizes}{layers}" + (f", minibatch of {self.batch}" if self.batch else "")

    @property
    def flops(self) -> int:
        """Multiplications and additions of the products with the state alone: 14 (or 12) N M D."""
        samples = self.batch or self.samples
        return (14 if self.scheme == "gaps" else 12) * self.particles * samples * self.width


class Arrays(NamedTuple):
    """A case's arrays, particles in the order in which the network has them.

    Attributes
    ----------
    start, target, readout : ndarray (M, D), (M, 1), (1, D)
    a, w, b, weight : ndarray (N, D), (N, D), (N,), (N,)
        Particle i adds weight_i a_i tanh(w_i . x + b_i).
    """

    start: np.ndarray
    target: np.ndarray
    readout: np.ndarray
    a: np.ndarray
    w: np.ndarray
    b: np.ndarray
    weight: np.ndarray


def measure(case: Case) -> tuple[wgflow.Problem, wgflow.Particles, wgflow.Gaps | wgflow.Layers]:
    """The case as wgflow's users would write it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(case.samples, case.width)), rng.normal(size=case.samples)
    problem = wgflow.Problem(x, y, readout=rng.normal(size=(1, case.width)))
    if case.scheme == "layers":
        depth = wgflow.Layers(case.layers)
        return problem, wgflow.Particles.draw_layers(problem, case.layers, case.particles // case.layers), depth
    return problem, wgflow.Particles.draw(problem, case.particles, tau="uniform"), wgflow.Gaps()


def arrays(case: Case) -> Arrays:
    """The same for other programs."""
    problem, rho, depth = measure(case)
    net, width = depth.network(rho), case.width
    theta = rho.theta[net.particle]
    rows = slice(case.batch or None)
    return Arrays(
        np.ascontiguousarray(problem.start()[rows]),
        np.ascontiguousarray(problem.y[rows]),
        problem.readout,
        *(np.ascontiguousarray(part) for part in (theta[:, :width], theta[:, width : 2 * width], theta[:, -1])),
        weight=net.weight,
    )
