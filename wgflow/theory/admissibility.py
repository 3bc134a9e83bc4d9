"""Admissible starts: bounded support, and the moments of the initial process.

Ding, Chen, Li and Wright (arXiv:2110.02926) ask of an initial process theta(t) ~ rho_ini(., t) that it is continuous in
depth with |theta(t0)| < r (Definition 4.2) and supp rho_ini in {|theta_[1]| <= R} (Theorem 5.1); Lu et al. that rho is
supported on one of the nested sets Q_r. A Gaussian is on none of them, however small a drawn sample is. A law with
|theta| < r at t0 does not separate {-r0} x R^(k-1) from {r0} x R^(k-1), as a path around the ball shows: the print of
Definition 4.2 and Theorem 6.2 exclude one another, and a partially homogeneous block is held to |theta_[1]| <= R alone.

For the width M and the depth L of a network, Definition E.1 asks with probability 1 - eta, for M > C3/eta,

    sup_t (1/M) sum_m |theta_m(t)|**2 <= C4,
    (1/M) sum_l sum_m int_(l/L)^((l+1)/L) |theta_m(t) - theta_m(l/L)|**2 dt <= C4 / L**2.

The probabilities over seeds are in :mod:`wgflow.stats.limit_admissibility`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import log_ndtr, ndtr

from wgflow.base.scaling import norms
from wgflow.base.types import Array, Index
from wgflow.base.validate import real, whole
from wgflow.model.initial_laws import standard_layers
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, LU, Assumption, Condition, Finding, listed, verdict_of
from wgflow.theory.homogeneity import leading_group
from wgflow.theory.reference_laws import InitialLaw, Law

_NODES = 4  # depths in each layer, by Gauss-Legendre: the integral is right to 1e-6 at L = 1, and better beyond
_STEPS = 32  # of the grid of depths over which the supremum is taken, beside the nodes: right to 0.2%
_ROUNDING = 1e-12
_SINGLE = 2.0**-22  # relative, of particles of the law that were rounded to 32 bits


class ProcessMoments(NamedTuple):
    """Left sides of the inequalities of Definition E.1 for one start.

    Attributes
    ----------
    largest : float
        Maximum over a grid of depths, ends included, of (1/M) sum_m |theta_m(t)|**2.
    roughness : float
        L**2 (1/M) sum_l sum_m int_(l/L)^((l+1)/L) |theta_m(t) - theta_m(l/L)|**2 dt.
    """

    largest: float
    roughness: float


def radius(
    problem: Problem, rho: Particles, law: Law | None = None, bound: float | None = None, seed: int = 0
) -> Assumption:
    """Bound of the support of the start: |theta_[1]| <= R, and |theta| < r.

    Parameters
    ----------
    problem, rho : Problem, Particles
        The start. Particles of mass 0 are not in the support.
    law : callable, optional
        Law it was drawn from. Of an :class:`~wgflow.theory.reference_laws.InitialLaw` the support is known in closed
        form. Without one, nothing but the particles is checked.
    bound : float, optional
        R > 0 that the particles are held to; by default that of the law.
    seed : int, optional
        Seed of the test by which theta_[1] is found: the first group in which f is linear
        (:func:`wgflow.theory.homogeneity.leading_group`), all of theta if there is none.

    Returns
    -------
    Assumption
        ``number`` is the largest |theta_[1]| of the particles, which any finite sample has. ``pass`` if the law's
        support is bounded and the particles are within, ``fail`` if it is unbounded or a particle lies beyond R,
        ``unknown`` if the law is not known in closed form.
    """
    theta, group = rho.theta[rho.mass > 0], leading_group(problem, seed)
    every = np.arange(problem.shape[3])
    columns = every if group is None else every[problem.groups[group]]
    name = "|theta|" if group is None else "|theta_[1]|"
    largest = float(norms(theta[:, columns]).max(initial=0.0))
    bound = None if bound is None else real("bound", bound, above=0.0)
    conditions = [_support(f"{name} <= R on the support (Theorem 5.1)", law, columns, largest)]
    if group is not None:
        whole_size = float(norms(theta).max(initial=0.0))
        conditions.append(_support("|theta(t0)| < r (Definition 4.2)", law, every, whole_size, decides=False))
    limit = law.bound(columns) if bound is None and isinstance(law, InitialLaw) else bound
    if limit is not None and math.isfinite(limit):
        inside = largest <= limit * (1 + (_ROUNDING if bound is not None else _SINGLE))
        sign = "<=" if inside else ">"
        finding: Finding = "proved" if inside else "refuted"
        conditions.append(Condition(f"{name} <= R of the particles", finding, f"{largest:.4g} {sign} {limit:.4g}"))
    where = "" if group is None else f" over {group}"
    drawn = f"The {len(theta)} particles have max {name} = {largest:.4g}{where}, as any sample has one."
    sentence = f"{drawn} {listed(conditions)}"
    source = f"{LU}, nested sets Q_r; {DING}, Definition 4.2 and Theorem 5.1"
    return Assumption("support in Q_r", verdict_of(conditions), largest, sentence, source, tuple(conditions))


def _support(name: str, law: Law | None, columns: Index, largest: float, decides: bool = True) -> Condition:
    """Whether the support of a law is bounded in some columns."""
    if not isinstance(law, InitialLaw):
        return Condition(name, "not checked", "the support of the law is not known in closed form", decides)
    bound = law.bound(columns)
    if math.isfinite(bound):
        return Condition(name, "proved", f"law {law.theta.name}, R = {bound:.4g}", decides)
    free = columns[~law.theta.columns(law.problem)[columns]]
    spread = float(law.spread[free].max())
    beyond = float(2 * ndtr(-largest / spread))
    least = f"{beyond:.2g}" if beyond > 0 else f"1e{math.floor(log_ndtr(-largest / spread) / math.log(10))}"
    reason = (
        f"Gaussian columns of standard deviation {spread:.3g}: P(size > {largest:.4g}) >= {least} > 0, and so > 0 "
        "for every bound"
    )
    return Condition(name, "refuted", reason, decides)


def process_moments(law: InitialLaw, layers: int, count: int, seed: int, coupling: str = "path") -> ProcessMoments:
    """Both left sides of Definition E.1 for M particles of a seed, with the draws of :meth:`Particles.draw_layers`.

    The integral is taken by Gauss-Legendre quadrature in each layer. Independent layers are fresh at every depth.

    Raises
    ------
    InputError
        If a number is out of range or the coupling is unknown.
    """
    layers, count = whole("layers", layers), whole("count", count)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    squares, integral = [], 0.0
    for layer in range(layers):
        depths = (layer + np.concatenate([[0.0], 0.5 * (1 + nodes)])) / layers
        theta = _process(law, depths, layer * (_NODES + 1), count, seed, coupling)
        squares.append(np.mean(np.sum(theta**2, axis=2), axis=1))
        integral += float(0.5 * weights @ np.mean(np.sum((theta[1:] - theta[0]) ** 2, axis=2), axis=1)) / layers
    grid = _process(law, np.linspace(0.0, 1.0, _STEPS + 1), layers * (_NODES + 1), count, seed, coupling)
    squares.append(np.mean(np.sum(grid**2, axis=2), axis=1))
    return ProcessMoments(float(np.concatenate(squares).max()), layers**2 * integral)


def _process(law: InitialLaw, t: Array, first: int, count: int, seed: int, coupling: str) -> Array:
    """theta_m(t), (T, M, P); independent draws count depths from ``first``."""
    numbers = range(first, first + len(t))
    standard = standard_layers(coupling, t, numbers, (0, count), law.problem.shape[3], seed)
    return np.asarray(law.spread * law.theta.place(standard, law.problem))
