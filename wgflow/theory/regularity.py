"""Regularity of paths through depth: structure function and moments.

Ding, Chen, Li and Wright (arXiv:2110.02926, Definition E.1) ask of the start that (1/M) sum_m |theta_m|**2 stays
bounded, that supp is in {|theta_[1]| <= R}, and that

    (1/M) sum_l sum_m int_(l/L)^((l+1)/L) |theta_m(t) - theta_m(l/L)|**2 dt <= C / L**2;

their theorems then keep moments bounded along the flow. For a network with L layers the left side is measured by the
steps between its layers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.scaling import largest, unit
from wgflow.base.types import Array
from wgflow.base.validate import whole
from wgflow.model.particles import Particles
from wgflow.theory.distances import conditionals


class Regularity(NamedTuple):
    """Structure function of particles along depth.

    Attributes
    ----------
    lags, structure : ndarray (n,)
        Differences of depth k/L, k = 1, 2, 4, ... up to L/4, and the mean over layers and particles of
        |theta_m(t + lag) - theta_m(t)|**2.
    lipschitz : float
        L times the root of the structure at one layer: for paths with a derivative the rms of |d theta/dt|, which does
        not grow with L; for independent layers L (2 Var theta)**(1/2). Its square bounds the C above.
    holder : float
        H of structure ~ lag**(2H), fitted over the lags: 1 for paths with a derivative, 1/2 for Brownian ones, 0 for
        independent layers; NaN with a single lag or equal layers.
    """

    lags: Array
    structure: Array
    lipschitz: float
    holder: float


class Moments(NamedTuple):
    """Second moments of theta.

    Attributes
    ----------
    mean, largest : float
        L_rho = int_0^1 int |theta|**2 rho(dtheta, t) dt, and sup over t of int |theta|**2 rho(dtheta, t).
    radius : float
        Largest |theta_k| over particles and columns: a ball of the supremum norm that contains the support.
    """

    mean: float
    largest: float
    radius: float


def regularity(rho: Particles, layers: int) -> Regularity:
    """Smoothness along depth of the particles of a network of L equally wide layers.

    Parameters
    ----------
    rho : Particles
        L M_l particles of equal mass; the m-th particles of all layers, in the order of their indices, are one path
        through depth, as in :meth:`wgflow.Particles.draw_layers`.
    layers : int
        L >= 2.

    Raises
    ------
    InputError
        If L is below 2, layers are not equally wide, or masses differ.
    """
    layers = whole("layers", layers, least=2)
    if rho.mass.max() - rho.mass.min() > 1e-9 * rho.mass.max():
        raise InputError(
            f"mass: expected equal weights, since every path counts alike, got {rho.mass.min():g} to {rho.mass.max():g}"
        )
    rows = [row for row, _ in conditionals(rho, layers)]
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"rho: expected equally many particles in each of {layers} layers, got {len(rho)} unequal")
    theta = rho.theta[np.stack(rows)]  # (L, M_l, P)
    steps = 2 ** np.arange(int(np.log2(max(1, layers // 4))) + 1)
    size = float(unit(max(largest(theta[k:] - theta[:-k]) for k in steps)))
    structure = np.array([np.mean(np.sum(((theta[k:] - theta[:-k]) / size) ** 2, axis=2)) for k in steps])
    holder = np.nan
    if len(steps) > 1 and structure.min() > 0:
        holder = 0.5 * float(np.polyfit(np.log(steps), np.log(structure), 1)[0])
    with np.errstate(over="ignore"):  # beyond 1e154 the square is infinite
        return Regularity(steps / layers, structure * size * size, size * float(layers * np.sqrt(structure[0])), holder)


def moments(rho: Particles, layers: int) -> Moments:
    """Second moments over all depths, and over L slices of depth; raises InputError if a slice has no mass."""
    with np.errstate(over="ignore"):  # beyond 1e154 the square is infinite
        squares = np.sum(rho.theta**2, axis=1)
    by_slice = [float(mass[mass > 0] @ squares[row][mass > 0]) for row, mass in conditionals(rho, layers)]
    kept = rho.mass > 0
    mean = float(rho.mass[kept] @ squares[kept] / rho.mass.sum())
    return Moments(mean, max(by_slice), float(np.abs(rho.theta[kept]).max()))
