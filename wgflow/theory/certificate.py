"""Descent certificates: the steepest direction from rho towards another measure, searched for from many starts.

inf_nu <dE/drho, nu - rho> over the measures nu on |theta| <= R that the scheme admits is reached by a nu that sits at
minimisers of dE/drho. It is linear in nu, so the search is one for minima of a function of a few parameters, batched
over all starts and depths through the compiled kernels (:mod:`wgflow.theory.minimise_first_variation`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.scaling import norms
from wgflow.base.types import Array, Index
from wgflow.base.validate import real, whole
from wgflow.energy import Energy
from wgflow.model.depth import Deposit, Gaps, Layers, Shallow
from wgflow.model.losses import CrossEntropy, Squared
from wgflow.model.particles import Particles
from wgflow.theory.minimise_first_variation import Found, lowest

_FAR = 2.0  # radius of the default ball in units of the farthest particle


class Certificate(NamedTuple):
    """What a search for a direction of descent found.

    Attributes
    ----------
    value : float
        <dE/drho, nu - rho> of the nu found: an upper bound of the infimum over |theta| <= R, and a true slope,
        E(rho + lambda (nu - rho)) = E(rho) + lambda value + o(lambda), whatever the search missed.
    theta, t, weight : ndarray (A, P), (A,), (A,)
        The nu found, as atoms: one under Deposit and Shallow (where t means nothing), one a layer under Gaps and
        Layers. The weights add up to those of rho.
    radius : float
        R.
    starts : int
        Starts of the search, at each depth.
    depths : int
        Depths at which dE/drho was minimised over theta; under Gaps and Layers, where these are fewer than the layers,
        layers in between take over the minimiser of the depth they are nearest to, and ``value`` says what that is
        worth exactly.
    settled : int
        How many of the atoms come from a start whose projected gradient had died out; the rest ran out of steps, and
        more steps may find a lower value.
    energy : float
        E(rho).
    optimality_gap : float or None
        Upper bound of E(rho) - inf E over the measures of this mass on |theta| <= R where E is convex in rho (Shallow
        with a convex loss), as far as the minimum found is the global one; None for every other model.
    tolerance : float
        Slopes down to -tolerance count as none.
    """

    value: float
    theta: Array
    t: Array
    weight: Array
    radius: float
    starts: int
    depths: int
    settled: int
    energy: float
    optimality_gap: float | None
    tolerance: float

    @property
    def found(self) -> bool:
        """Whether a direction of descent steeper than the tolerance was found."""
        return self.value < -self.tolerance

    @property
    def verdict(self) -> str:
        """What was done and found, in words."""
        done = f"found in {self.starts} starts" + (f" at each of {self.depths} depths" if self.depths > 1 else "")
        if self.settled < len(self.weight):
            done += f" ({len(self.weight) - self.settled} of {len(self.weight)} minima not settled)"
        where = f"radius {self.radius:.3g}; E = {self.energy:.3g}"
        if self.optimality_gap is not None:
            where += f", at most {self.optimality_gap:.2g} above the least on that ball"
        if not math.isfinite(self.value):
            return f"no slope of a finite size {done}, {where}"
        if self.found:
            return f"descent direction of {self.value:.2g} {done}, {where}"
        return f"no descent direction below {min(self.value, 0.0):.2g} {done}, {where}"


def certificate(
    energy: Energy,
    rho: Particles,
    radius: float | None = None,
    starts: int = 64,
    depths: int = 16,
    steps: int = 100,
    seed: int = 0,
    s: float = 0.0,
    tolerance: float = 1e-8,
) -> Certificate:
    """Search for inf_nu <dE/drho, nu - rho> over measures nu on |theta| <= R that the scheme admits.

    Deposit: mass(rho) min_(theta, t) dE/drho - <dE/drho, rho>. Shallow: the same without t. Gaps and Layers, whose
    time marginal is fixed: sum over layers of weight_k min_theta dE/drho(theta, t_k) - <dE/drho, rho>, the integral
    over depth, under Gaps up to the last particle's.

    Parameters
    ----------
    energy : Energy
        With its problem, scheme and regulariser.
    rho : Particles
        The measure.
    radius : float, optional
        R > 0; by default twice the largest |theta_i| of a particle with mass. Without a bound the infimum is -infinity
        for any block that is linear in some of its parameters.
    starts : int, optional
        Starts at each depth, >= 3: a third particles of rho (those where dE/drho is lowest, or nearest in depth), a
        third from the default initial law, a third uniform on the ball.
    depths : int, optional
        Depths to minimise at under Gaps and Layers, >= 1, at most the number of layers.
    steps : int, optional
        Steps of projected gradient descent at most, >= 1.
    seed : int, optional
        Seed of the random starts.
    s : float, optional
        Flow time, for a regulariser that depends on it.
    tolerance : float, optional
        Slopes down to -tolerance count as none, >= 0.

    Raises
    ------
    InputError
        If the scheme is not one of the four, or a number is out of range.

    Notes
    -----
    Local = global of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3: where E(rho) > 0, the infimum without the
    bound R is negative. The quantity is the gap of Frank and Wolfe (1956), which bounds E(rho) - inf E for convex E.
    """
    radius = _radius(radius, rho)
    starts = whole("starts", starts, 3)
    depths = whole("depths", depths)
    steps = whole("steps", steps)
    tolerance = real("tolerance", tolerance, least=0.0)
    hunt = _Hunt(energy, rho, energy.first_variation(rho, rho.theta, rho.tau, s), radius, starts, steps, seed, s)
    scheme = energy.depth
    if isinstance(scheme, Gaps | Layers):
        found, weight, minimised = _in_layers(hunt, depths)
    elif isinstance(scheme, Deposit | Shallow):
        found, weight, minimised = _anywhere(hunt), np.array([rho.mass.sum()]), 1
    else:
        raise InputError(f"certificate: expected depth gaps, layers, deposit or shallow, got {scheme.name!r}")
    value = float(weight @ found.value - energy.weights(rho) @ hunt.own)
    convex = isinstance(scheme, Shallow) and isinstance(energy.problem.loss, Squared | CrossEntropy)
    gap = max(0.0, -value) if convex else None
    settled = int(found.settled.sum())
    return Certificate(
        value, found.theta, found.t, weight, radius, starts, minimised, settled, energy(rho, s=s), gap, tolerance
    )


class _Hunt(NamedTuple):
    """What every search needs: where, dE/drho at the particles (N,), and how."""

    energy: Energy
    rho: Particles
    own: Array
    radius: float
    starts: int
    steps: int
    seed: int
    s: float

    def lowest(self, theta: Array, t: Array, group: Index, move_t: bool = False) -> Found:
        """Lowest point of each group of starts."""
        return lowest(self.energy, self.rho, theta, t, group, self.radius, self.steps, self.s, move_t=move_t)


def _anywhere(hunt: _Hunt) -> Found:
    """Joint minimum over (theta, t), under Shallow over theta."""
    best = np.argsort(hunt.own, kind="stable")[: hunt.starts // 3]
    theta, t = _starts(hunt, best)
    t[: len(best)] = hunt.rho.tau[best]
    return hunt.lowest(theta, t, np.zeros(len(t), np.int64), isinstance(hunt.energy.depth, Deposit))


def _in_layers(hunt: _Hunt, depths: int) -> tuple[Found, Array, int]:
    """Lowest points of all layers, the layers' weights, and at how many of them theta was searched."""
    layer, t, weight = _layers(hunt.energy, hunt.rho)
    if not len(t):  # all gaps are 0: no layer does anything, and none can be changed
        nowhere = np.empty(0)
        return Found(np.empty((0, hunt.rho.theta.shape[1])), nowhere, nowhere, nowhere.astype(bool)), nowhere, 0
    groups = np.array_split(np.arange(len(t)), min(depths, len(t)))
    theta, near = [], np.argsort(hunt.rho.tau, kind="stable")
    middle = t[[each[len(each) // 2] for each in groups]]
    for at in middle:
        closest = near[np.argsort(np.abs(hunt.rho.tau[near] - at), kind="stable")[: hunt.starts // 3]]
        theta.append(_starts(hunt, closest)[0])
    sizes = [len(each) for each in theta]
    found = hunt.lowest(np.concatenate(theta), np.repeat(middle, sizes), np.repeat(np.arange(len(groups)), sizes))
    taken = np.repeat(np.arange(len(groups)), [len(each) for each in groups])
    return _carried(hunt, found, taken, layer, t), weight, len(groups)


def _carried(hunt: _Hunt, found: Found, taken: Index, layer: Index, t: Array) -> Found:
    """Atoms of all layers: the minimiser taken over, or a particle of the layer's own that lies lower.

    The pairing of these atoms is exact whatever was taken over, and not above that of rho itself where all of rho lies
    within the radius.
    """
    theta, settled = found.theta[taken], found.settled[taken]
    value = hunt.energy.first_variation(hunt.rho, theta, t, hunt.s)
    inside = (layer >= 0) & (norms(hunt.rho.theta) <= hunt.radius)
    for i in np.flatnonzero(inside):
        if hunt.own[i] < value[layer[i]]:
            theta[layer[i]], value[layer[i]] = hunt.rho.theta[i], hunt.own[i]
    return Found(theta, t, value, settled)


def _layers(energy: Energy, rho: Particles) -> tuple[Index, Array, Array]:
    """Layer of each particle (-1 for none), a depth inside every layer, and its weight in the time marginal."""
    net = energy.depth.network(rho)
    weight = np.add.reduceat(net.weight, net.first[:-1]).astype(np.float64)
    layer = np.empty(len(rho), np.int64)
    layer[net.particle] = np.repeat(np.arange(net.layers), np.diff(net.first))
    if isinstance(energy.depth, Layers):
        return layer, (np.arange(net.layers) + 0.5) / net.layers, weight
    kept = np.flatnonzero(weight > 0)  # of particles at one depth the first has the whole gap
    place = np.full(net.layers, -1)
    place[kept] = np.arange(len(kept))
    return place[layer], rho.tau[net.particle][kept], weight[kept]


def _starts(hunt: _Hunt, own: Index) -> tuple[Array, Array]:
    """Starts (starts, P) near the ball, with uniform depths (starts,): particles, the initial law, the ball."""
    parameters = hunt.rho.theta.shape[1]
    drawn = Particles.draw(hunt.energy.problem, hunt.starts // 3, hunt.seed).theta
    rest = hunt.starts - len(own) - len(drawn)
    gauss = rng.normal(hunt.seed, "certificate directions", (rest, parameters))
    uniform = rng.uniform(hunt.seed, "certificate radii and depths", (hunt.starts, 2))
    ball = gauss / np.linalg.norm(gauss, axis=1, keepdims=True)
    ball *= hunt.radius * uniform[:rest, :1] ** (1.0 / parameters)
    return np.concatenate([hunt.rho.theta[own], drawn, ball]), uniform[:, 1].copy()


def _radius(radius: float | None, rho: Particles) -> float:
    """Check R, or take twice the farthest particle."""
    if radius is not None:
        return real("radius", radius, above=0.0)
    farthest = float(norms(rho.theta[rho.mass > 0]).max(initial=0.0))
    if farthest == 0:
        raise InputError("radius: expected R > 0 for a measure whose parameters are all 0, got none; pass radius=1.0")
    return _FAR * farthest
