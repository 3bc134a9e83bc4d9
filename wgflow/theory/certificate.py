"""Descent certificates: search for the steepest direction from rho towards another measure, from many starts.

inf_nu <dE/drho, nu - rho> is linear in nu, hence reached by a nu that sits at minimisers of dE/drho: minima of a
function of a few parameters (:mod:`wgflow.theory.minimise_first_variation`).
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
from wgflow.base.verdict import Claim, Verdict
from wgflow.energy import Energy
from wgflow.model.depth import Deposit, Gaps, Intervals, Layers, Shallow
from wgflow.model.losses import CrossEntropy, Squared
from wgflow.model.particles import Particles
from wgflow.theory.minimise_first_variation import Minima, minimise_first_variation

_FAR = 2.0  # radius of the default ball in units of the largest |theta_i|

DESCENT = Claim(
    "descent_direction", "slope ⟨δE/δρ, ν − ρ⟩ of the best ν found", "<", "minus the tolerance",
    holds="the steepest slope found {so_far}is {left:.2g}, {search}",
    fails="no descent direction below {least:.2g} was found {so_far}{search}, which does not exclude one",
    unknown="no finite slope was found {search}",
)  # fmt: skip
SEARCHED = Claim(
    "certificate_converged", "minima of the search that converged", ">=", "minima",
    holds="the search for a direction of descent converged at all of its {right:.0f} minima",
    fails="the search for a direction of descent ran out of steps at {short} of its {right:.0f} minima: "
    "a steeper one may have been missed",
    unknown="whether the search for a direction of descent converged is not known",
)  # fmt: skip


class Certificate(NamedTuple):
    """Result of a search for a direction of descent.

    Attributes
    ----------
    value : float
        <dE/drho, nu - rho> of the best nu: an upper bound of the infimum over |theta| <= R, and an exact slope,
        E(rho + lambda (nu - rho)) = E(rho) + lambda value + o(lambda), even if the search missed the infimum.
    theta, t, weight : ndarray (A, P), (A,), (A,)
        Atoms of nu: one under Deposit, Intervals and Shallow (where t means nothing), one a layer under Gaps and
        Layers. The weights add up to those of rho.
    radius, starts : float, int
        R, and starts of the search at each depth.
    depths : int
        Depths at which dE/drho was minimised over theta. If these are fewer than the layers of Gaps or Layers, the
        layers in between take the minimiser of a nearby depth; ``value`` is exact for that nu.
    converged : int
        Atoms from a start that converged; the others ran out of steps, and more steps may find a lower value.
    energy : float
        E(rho).
    convex : bool
        Whether E is convex in rho: Shallow with a convex loss of a linear output.
    tolerance : float
        Slopes down to -tolerance count as zero.
    """

    value: float
    theta: Array
    t: Array
    weight: Array
    radius: float
    starts: int
    depths: int
    converged: int
    energy: float
    convex: bool
    tolerance: float

    @property
    def descends(self) -> bool:
        """Whether a direction of descent steeper than the tolerance was found."""
        return self.value < -self.tolerance

    @property
    def gap(self) -> float:
        """max(0, -value): a lower bound of the Frank-Wolfe gap -inf_nu <dE/drho, nu - rho> over |theta| <= R.

        Where E is convex the gap itself bounds E(rho) - inf E over the measures of this mass on |theta| <= R from
        above; so does this number if the minimum found is global, which no search from finitely many starts shows.
        """
        return max(0.0, -self.value)

    @property
    def verdict(self) -> Verdict:
        """Whether a direction of descent was found."""
        search = f"from {self.starts} starts" + (f" at each of {self.depths} depths" if self.depths > 1 else "")
        so_far = "" if self.searched.holds else "so far "
        search += f", within radius {self.radius:.3g}; E = {self.energy:.3g}"
        if self.convex and math.isfinite(self.value):
            search += f", above the least on that ball by at most {self.gap:.2g} if the minimum found is global"
        slope = self.value if math.isfinite(self.value) else math.nan
        return DESCENT(slope, -self.tolerance, least=min(self.value, 0.0), search=search, so_far=so_far)

    @property
    def searched(self) -> Verdict:
        """Whether the search converged, without which the slope is only what it had reached."""
        minima = len(self.weight)
        return SEARCHED(self.converged, minima, short=minima - self.converged)


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

    Deposit and Intervals: mass(rho) min_(theta, t) dE/drho - <dE/drho, rho>, nu one point,
    which under Intervals is no block but a measure. Shallow: the same without t. Gaps and Layers, whose
    time marginal is fixed: sum over layers of weight_k min_theta dE/drho(theta, t_k) - <dE/drho, rho>, the integral
    over depth, under Gaps up to the last particle's.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem, scheme and regulariser.
    radius : float, optional
        R > 0; by default twice the largest |theta_i| of a particle with mass. Without a bound the infimum is -infinity
        for any block that is linear in some of its parameters.
    starts : int, optional
        Starts at each depth, >= 3: one third particles of rho (with the lowest dE/drho, or the nearest in depth), one
        third from the default initial law, one third uniform on the ball.
    depths : int, optional
        Depths to minimise at under Gaps and Layers, >= 1, at most the number of layers.
    steps, seed : int, optional
        Largest number of steps of projected gradient descent, >= 1, and seed of the random starts.
    s : float, optional
        Flow time, for a regulariser that depends on it.
    tolerance : float, optional
        Slopes down to -tolerance count as zero, >= 0.

    Raises
    ------
    InputError
        If the scheme is not a built-in one, or a number is out of range.

    Notes
    -----
    Local = global of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3: where E(rho) > 0, the infimum without the
    bound R is negative. Minus the infimum is the gap of Frank and Wolfe (1956), which the search bounds from below.
    """
    radius = _radius(radius, rho)
    starts, depths, steps = whole("starts", starts, 3), whole("depths", depths), whole("steps", steps)
    tolerance = real("tolerance", tolerance, least=0.0)
    search = _Search(energy, rho, energy.pairings(rho, s), radius, starts, steps, seed, s)
    scheme = energy.depth
    if isinstance(scheme, Gaps | Layers):
        minima, weight, minimised = _in_layers(search, depths)
    elif isinstance(scheme, Deposit | Intervals | Shallow):
        minima, weight, minimised = _joint(search), np.array([rho.mass.sum()]), 1
    else:
        raise InputError(
            f"certificate: expected depth gaps, layers, deposit, intervals or shallow, got {scheme.name!r}"
        )
    value = float(weight @ minima.value - energy.weights(rho) @ search.own)
    convex = (
        isinstance(scheme, Shallow)
        and energy.problem.linear
        and type(energy.problem.loss) in (Squared, CrossEntropy)  # a subclass may be anything
    )
    return Certificate(
        value=value,
        theta=minima.theta,
        t=minima.t,
        weight=weight,
        radius=radius,
        starts=starts,
        depths=minimised,
        converged=int(minima.converged.sum()),
        energy=energy(rho, s=s),
        convex=convex,
        tolerance=tolerance,
    )


class _Search(NamedTuple):
    """Energy, measure, dE/drho at its particles (N,), and options of a search."""

    energy: Energy
    rho: Particles
    own: Array
    radius: float
    starts: int
    steps: int
    seed: int
    s: float

    def minimise(self, theta: Array, t: Array, group: Index, move_t: bool = False) -> Minima:
        """Lowest point of each group of starts."""
        return minimise_first_variation(self.energy, self.rho, theta, t, group, self.radius, self.steps, self.s, move_t)


def _joint(search: _Search) -> Minima:
    """Joint minimum over (theta, t), under Shallow over theta."""
    best = np.argsort(search.own, kind="stable")[: search.starts // 3]
    theta, t = _starts(search, best)
    t[: len(best)] = search.rho.tau[best]
    return search.minimise(theta, t, np.zeros(len(t), np.int64), isinstance(search.energy.depth, Deposit | Intervals))


def _in_layers(search: _Search, depths: int) -> tuple[Minima, Array, int]:
    """Minima in all layers, the layers' weights, and the number of depths at which theta was searched."""
    layer, t, weight = _layers(search.energy, search.rho)
    if not len(t):  # all gaps are 0: no layer has any effect
        none = np.empty(0)
        return Minima(np.empty((0, search.rho.theta.shape[1])), none, none, none.astype(bool)), none, 0
    groups = np.array_split(np.arange(len(t)), min(depths, len(t)))
    theta, near = [], np.argsort(search.rho.tau, kind="stable")
    middle = t[[group[len(group) // 2] for group in groups]]
    for at in middle:
        closest = near[np.argsort(np.abs(search.rho.tau[near] - at), kind="stable")[: search.starts // 3]]
        theta.append(_starts(search, closest)[0])
    sizes = [len(starts) for starts in theta]
    minima = search.minimise(np.concatenate(theta), np.repeat(middle, sizes), np.repeat(np.arange(len(groups)), sizes))
    source = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return _extended(search, minima, source, layer, t), weight, len(groups)


def _extended(search: _Search, minima: Minima, source: Index, layer: Index, t: Array) -> Minima:
    """Atoms of all layers: the minimiser of a nearby depth, or a particle of the layer with a lower value.

    The pairing with these atoms is exact for any choice, and not above that of rho itself if all of rho lies within
    the radius.
    """
    theta = minima.theta[source]
    value = search.energy.first_variation(search.rho, theta, t, search.s)
    inside = (layer >= 0) & (norms(search.rho.theta) <= search.radius)
    for i in np.flatnonzero(inside):
        if search.own[i] < value[layer[i]]:
            theta[layer[i]], value[layer[i]] = search.rho.theta[i], search.own[i]
    return Minima(theta, t, value, minima.converged[source])


def _layers(energy: Energy, rho: Particles) -> tuple[Index, Array, Array]:
    """Layer of each particle (-1 for none), a depth inside every layer, and its weight in the time marginal."""
    net = energy.depth.network(rho)
    weight = np.add.reduceat(net.weight, net.first[:-1]).astype(np.float64)
    layer = np.empty(len(rho), np.int64)
    layer[net.particle] = np.repeat(np.arange(net.layers), np.diff(net.first))
    if isinstance(energy.depth, Layers):
        return layer, (np.arange(net.layers) + 0.5) / net.layers, weight
    kept = np.flatnonzero(weight > 0)  # of particles at one depth the first has the whole gap
    number = np.full(net.layers, -1)
    number[kept] = np.arange(len(kept))
    return number[layer], rho.tau[net.particle][kept], weight[kept]


def _starts(search: _Search, own: Index) -> tuple[Array, Array]:
    """Starts (starts, P) near the ball, with uniform depths (starts,): particles, the initial law, the ball."""
    parameters = search.rho.theta.shape[1]
    drawn = Particles.draw(search.energy.problem, search.starts // 3, search.seed).theta
    rest = search.starts - len(own) - len(drawn)
    gauss = rng.normal(search.seed, "certificate directions", (rest, parameters))
    uniform = rng.uniform(search.seed, "certificate radii and depths", (search.starts, 2))
    ball = gauss / np.linalg.norm(gauss, axis=1, keepdims=True)
    ball *= search.radius * uniform[:rest, :1] ** (1.0 / parameters)
    return np.concatenate([search.rho.theta[own], drawn, ball]), uniform[:, 1].copy()


def _radius(radius: float | None, rho: Particles) -> float:
    """Radius given, checked, or twice the largest |theta_i|."""
    if radius is not None:
        return real("radius", radius, above=0.0)
    farthest = float(norms(rho.theta[rho.mass > 0]).max(initial=0.0))
    if farthest == 0:
        raise InputError("radius: expected R > 0 for a measure whose parameters are all 0, got none; pass radius=1.0")
    return _FAR * farthest
