"""Problems whose energy, velocity, first variation or flow is known in closed form: the oracles of the tests.

All use the linear activation, where the network is a product of matrices or its continuum limit a matrix exponential.
Gaussian data enter through their second moments alone, so the samples are chosen to have exactly those.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import expm

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index
from wgflow.model.problem import Problem


def whitened(seed: int, samples: int, width: int) -> Array:
    """Gaussian samples (M, D), moved and mixed so that their mean is 0 and their second moment the identity exactly.

    Raises
    ------
    InputError
        If samples <= width, where no such samples exist.
    """
    if samples <= width:
        raise InputError(f"samples: expected more than width = {width}, got {describe(samples)}")
    x = rng.normal(seed, "whitened", (samples, width))
    x = x - x.mean(axis=0)
    root = np.linalg.cholesky(x.T @ x / samples)
    return np.asarray(np.linalg.solve(root, x.T).T)


class LinearChain(NamedTuple):
    """One-dimensional linear blocks a w x under Gaps: X(1) = prod_l (1 + gap_l a_l w_l) x.

    Attributes
    ----------
    problem : Problem
        D = 1, ridge without bias, mean x**2 = 1, y = target x.
    target : float
        Slope of the target.
    """

    problem: Problem
    target: float

    def energy(self, theta: Array, tau: Array) -> float:
        """E = (prod_l (1 + gap_l a_l w_l) - target)**2 / 2 for particles (N, 2), (N,)."""
        return 0.5 * float(self._factors(theta, tau)[1].prod() - self.target) ** 2

    def gradient(self, theta: Array, tau: Array) -> tuple[Array, Array]:
        """dE/dtheta, (N, 2), and dE/dtau, (N,)."""
        order, factors = self._factors(theta, tau)
        gap = np.diff(tau[order], prepend=0.0)
        others = np.array([np.delete(factors, k).prod() for k in range(len(factors))])
        along = (factors.prod() - self.target) * others  # dE/dfactor_l
        a, w = theta[order].T
        by_theta, by_tau = np.empty_like(theta), np.empty_like(tau)
        by_theta[order] = np.stack([along * gap * w, along * gap * a], axis=1)
        g = along * a * w  # dE/dgap_l
        by_tau[order] = g - np.append(g[1:], 0.0)
        return by_theta, by_tau

    def _factors(self, theta: Array, tau: Array) -> tuple[Index, Array]:
        order = np.argsort(tau, kind="stable")
        a, w = theta[order].T
        return order, 1.0 + np.diff(tau[order], prepend=0.0) * a * w


def linear_chain(target: float = 1.5, samples: int = 16, seed: int = 0) -> LinearChain:
    """Build a :class:`LinearChain`."""
    x = whitened(seed, samples, 1)
    block = {"name": "ridge", "bias": False}
    return LinearChain(Problem(x, target * x, block, "linear", readout=[[1.0]]), target)


class LinearContinuum(NamedTuple):
    """Linear blocks a (w . x) and a measure sum_i m_i delta_theta_i x Lebesgue: the continuum in closed form.

    With A = sum_i m_i a_i w_i', X(t) = exp(tA) x and p(t) = exp((1 - t) A') p(1), so

        dE/drho(theta, t) = a . exp((1 - t) A') C exp(t A') w,   C = mean p(1) x',

    and E = |W1 exp(A) - T|_F**2 / 2 for data with second moment the identity and y = T x.

    Attributes
    ----------
    problem : Problem
        Ridge without bias, linear activation, whitened x, y = T x.
    target : ndarray (K, D)
        T.
    theta : ndarray (I, 2 D)
        Parameters of the atoms.
    mass : ndarray (I,)
        Their masses, with sum 1.
    """

    problem: Problem
    target: Array
    theta: Array
    mass: Array

    @property
    def generator(self) -> Array:
        """A, (D, D)."""
        width = self.theta.shape[1] // 2
        return np.asarray(np.einsum("i,ij,ik->jk", self.mass, self.theta[:, :width], self.theta[:, width:]))

    @property
    def energy(self) -> float:
        """E of the continuum."""
        residual = self.problem.readout @ expm(self.generator) - self.target
        return 0.5 * float(np.sum(residual**2))

    def first_variation(self, theta: Array, t: Array) -> Array:
        """dE/drho at points (Q, 2 D), (Q,) of the continuum, (Q,)."""
        generator, readout = self.generator, self.problem.readout
        width = len(generator)
        moment = readout.T @ (readout @ expm(generator) - self.target)  # mean p(1) x'
        return np.array(
            [
                row[:width] @ expm((1 - at) * generator.T) @ moment @ expm(at * generator.T) @ row[width:]
                for row, at in zip(theta, t, strict=True)
            ]
        )

    def depth_derivative(self, theta: Array, t: Array) -> Array:
        """d/dt of :meth:`first_variation`, (Q,): a . exp((1 - t) A') (C A' - A' C) exp(t A') w."""
        generator, readout = self.generator, self.problem.readout
        width = len(generator)
        moment = readout.T @ (readout @ expm(generator) - self.target)
        bracket = moment @ generator.T - generator.T @ moment
        return np.array(
            [
                row[:width] @ expm((1 - at) * generator.T) @ bracket @ expm(at * generator.T) @ row[width:]
                for row, at in zip(theta, t, strict=True)
            ]
        )

    def particles(self, layers: int) -> tuple[Array, Array, Array]:
        """Atoms at the midpoint of each of L layers: theta (L I, 2 D), tau (L I,), mass (L I,)."""
        tau = np.repeat((np.arange(layers) + 0.5) / layers, len(self.theta))
        return np.tile(self.theta, (layers, 1)), tau, np.tile(self.mass, layers) / layers


def linear_continuum(width: int = 3, atoms: int = 4, samples: int = 24, seed: int = 0) -> LinearContinuum:
    """Build a :class:`LinearContinuum` with K = 2 outputs and equal masses."""
    x = whitened(seed, samples, width)
    target = rng.normal(seed, "continuum target", (2, width))
    readout = rng.normal(seed, "continuum readout", (2, width))
    problem = Problem(x, x @ target.T, {"name": "ridge", "bias": False}, "linear", readout=readout)
    return LinearContinuum(
        problem, target, 0.7 * rng.normal(seed, "continuum atoms", (atoms, 2 * width)), np.full(atoms, 1.0 / atoms)
    )


class LinearFlow(NamedTuple):
    """Shallow, D = 1, linear ridge blocks with w = 1 pinned: a gradient flow that is one exponential.

    X(1) = (1 + mean a) x, E = (1 + mean a - target)**2 / 2 and da_i/ds = -(1 + mean a - target), so the mean error
    decays as exp(-s) and every a_i moves by the same amount.

    Attributes
    ----------
    problem : Problem
        D = 1, ridge without bias, linear activation, mean x**2 = 1, y = target x.
    target : float
        Slope of the target.
    """

    problem: Problem
    target: float

    def theta(self, start: Array, s: float) -> Array:
        """Parameters (N, 2) at flow time s from those at 0."""
        error = 1.0 + start[:, 0].mean() - self.target
        return np.asarray(start + np.array([error * np.expm1(-s), 0.0]))

    def energy(self, start: Array, s: float) -> float:
        """E at flow time s."""
        return 0.5 * float((1.0 + start[:, 0].mean() - self.target) * np.exp(-s)) ** 2


def linear_flow(target: float = 2.0, samples: int = 12, seed: int = 0) -> LinearFlow:
    """Build a :class:`LinearFlow`; run it under ``Shallow()`` with ``mobility={"w": 0}`` from particles with w = 1."""
    x = whitened(seed, samples, 1)
    return LinearFlow(Problem(x, target * x, {"name": "ridge", "bias": False}, "linear", readout=[[1.0]]), target)
