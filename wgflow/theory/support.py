"""Full support, as far as N points can have it: coverage, directions, covering radius, separation, depths.

A stationary point of full support is a global minimiser (Lu, Ma, Lu, Lu and Ying, arXiv:2003.05508; the separation of
spheres that Ding, Chen, Li and Wright, arXiv:2110.02926, Theorem 6.1, ask for is a statement about directions). N
particles never have full support, so every number stands beside that of N independent draws from a law that has it.
The measures are this project's own (derived), not a paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.scaling import column_spread, largest, unit
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, whole
from wgflow.theory.nearest_neighbours import nearest, smallest_gap
from wgflow.theory.reference import Beside, Law, beside, pooled
from wgflow.theory.reference import draws as drawn

QUANTILE = 0.95  # coverage of an iid cloud, by construction


@dataclass(frozen=True)
class Support:
    """How much of a reference law's support N particles reach, each number beside that of N iid draws.

    Attributes
    ----------
    coverage : Beside
        Fraction of fresh draws (theta, tau) within r of the nearest particle, r the 95% quantile of that distance for N
        iid draws; an iid cloud has 0.95.
    directions : mapping of str to Beside
        The same for theta/|theta|, under ``"theta"``, and for each parameter group under its name.
    covering : Beside
        Largest distance of a fresh draw from its nearest particle, in standard deviations of the law.
    separation : Beside
        Smallest distance between two particles, in the same unit; nan for one particle.
    thinnest : Beside
        Smallest standard deviation in any direction of (theta, tau), in the same unit. In high dimension the middle of
        a sphere is nearer to its points than they are to each other, so that a cloud that shrank into a subspace can
        score more coverage than an iid one: this number is what notices.
    tau : Beside
        Kolmogorov-Smirnov distance of the depths from the uniform law on [0, 1].
    iid : tuple of float
        What :attr:`ratio` is for clouds of N iid draws: a smallest of several, it is below 1 for few particles.
    """

    coverage: Beside
    directions: Mapping[str, Beside]
    covering: Beside
    separation: Beside
    thinnest: Beside
    tau: Beside
    iid: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """Smallest of 1 and the ratios of coverage, directions of theta and thinnest: "support like 94% of iid"."""
        parts = [self.coverage, self.thinnest, *(part for name, part in self.directions.items() if name == "theta")]
        return min([1.0] + [part.ratio for part in parts if part.iid > 0])  # N <= P + 1 iid draws are thin themselves


class View(NamedTuple):
    """One view of a law: what is fresh in it and how near N iid draws come to that.

    Attributes
    ----------
    fresh : ndarray (Q, d)
        Fresh draws.
    radius : float
        Within which an iid cloud has 95% of them.
    coverage, covering : list of float
        Fraction within it, and distance of the farthest fresh draw, of each iid cloud.
    """

    fresh: Array
    radius: float
    coverage: list[float]
    covering: list[float]

    def distances(self, cloud: Array) -> Array:
        """Distances of the fresh draws from a cloud in this view; infinite from an empty one."""
        return nearest(self.fresh, cloud) if len(cloud) else np.full(len(self.fresh), np.inf)


class Yardstick:
    """What N independent draws of a law score, kept to measure many clouds of N particles against.

    Distances between pairs (theta, tau) are taken after dividing each column by the law's standard deviation; columns
    that the law does not vary are left as they are.

    Parameters
    ----------
    law : callable
        ``law(count, seed) -> (theta, tau)``, e.g. of :mod:`wgflow.theory.reference`.
    count : int
        N >= 1, as many as the clouds to be measured have.
    draws : int, optional
        Q fresh draws, >= 20.
    clouds : int, optional
        Independent clouds of N iid draws behind means, standard deviations and the radius, >= 2.
    seed : int, optional
        Seed of everything drawn.
    groups : mapping of str to slice, optional
        Columns of theta whose directions are measured too, e.g. ``problem.groups``; a group that the law keeps at 0 has
        none and is left out.

    Raises
    ------
    InputError
        If a number is out of range, or the law does not return what it should.
    """

    def __init__(
        self,
        law: Law,
        count: int,
        draws: int = 2000,
        clouds: int = 8,
        seed: int = 0,
        groups: Mapping[str, slice] | None = None,
    ) -> None:
        self.count = whole("count", count)
        iid = drawn(law, count, seed, whole("clouds", clouds, least=2))
        fresh = drawn(law, whole("draws", draws, least=20), seed, 1, "fresh draws")[0]
        self.parameters = iid[0][0].shape[1]
        theta, tau = pooled([*iid, fresh])
        parts = [column_spread(each) for each in (theta, tau[:, None])]
        spread = np.concatenate([each.unit * each.deviation for each in parts])
        self.scale = np.where(np.concatenate([each.constant for each in parts]), 1.0, spread)
        self._joint = view(self._points(*fresh), [self._points(*cloud) for cloud in iid])
        self._separation = [_separation(self._points(*cloud)) for cloud in iid]
        self._thinnest = [thinnest(self._points(*cloud)) for cloud in iid]
        self._tau = [uniformity(depths) for _, depths in iid]
        self._groups = {"theta": slice(None)} | dict(groups or {})
        self._directions = {}
        for name, columns in self._groups.items():
            views = [directions(theta[:, columns]) for theta, _ in (fresh, *iid)]
            if all(map(len, views)):
                self._directions[name] = view(views[0], views[1:])

        self._ratios = tuple(self._measure(*cloud).ratio for cloud in iid)

    def measure(self, theta: Array, tau: Array, mass: Array | None = None) -> Support:
        """Measure N particles.

        Parameters
        ----------
        theta, tau : ndarray (N, P), (N,)
            The particles. Other numbers of them than ``count`` are taken, and compared with ``count`` iid draws.
        mass : ndarray (N,), optional
            Their masses >= 0, by default equal. Particles of mass 0 are not in the support and are left out; of the
            others the law of the depths alone depends on how much they weigh.

        Raises
        ------
        InputError
            If shapes do not fit, a number is not finite, or no particle has mass.
        """
        theta, tau = finite_array("theta", theta, 2), finite_array("tau", tau, 1)
        mass = finite_array("mass", np.ones(len(tau)) if mass is None else mass, 1)
        if theta.shape[1] != self.parameters or len(tau) != len(theta):
            raise InputError(
                f"theta, tau: expected shapes (N, {self.parameters}) and (N,), got {theta.shape} and {tau.shape}"
            )
        if len(mass) != len(tau) or (mass < 0).any() or not mass.any():
            raise InputError(
                f"mass: expected {len(tau)} weights >= 0, not all 0, got {len(mass)} from {mass.min():g} to "
                f"{mass.max():g}"
            )
        there = mass > 0
        return replace(self._measure(theta[there], tau[there], mass[there]), iid=self._ratios)

    def _measure(self, theta: Array, tau: Array, mass: Array | None = None) -> Support:
        points = self._points(theta, tau)
        distance = self._joint.distances(points)
        turned = {name: directions(theta[:, self._groups[name]]) for name in self._directions}
        return Support(
            covered(self._joint, distance),
            {name: covered(each, each.distances(turned[name])) for name, each in self._directions.items()},
            beside(distance.max(), self._joint.covering),
            beside(_separation(points), self._separation),
            beside(thinnest(points), self._thinnest),
            beside(uniformity(tau, mass), self._tau),
        )

    def _points(self, theta: Array, tau: Array) -> Array:
        return np.column_stack([theta, tau]) / self.scale


def support(
    theta: Array,
    tau: Array,
    law: Law,
    draws: int = 2000,
    clouds: int = 8,
    seed: int = 0,
    groups: Mapping[str, slice] | None = None,
    mass: Array | None = None,
) -> Support:
    """Measure one cloud, theta (N, P) and tau (N,), with a :class:`Yardstick` made for it; arguments as there."""
    return Yardstick(law, len(theta), draws, clouds, seed, groups).measure(theta, tau, mass)


def directions(theta: Array) -> Array:
    """Directions theta/|theta| of the rows (N, P) that are not 0."""
    theta = theta[theta.any(axis=1)]
    theta = theta / unit(largest(theta, 1))[:, None]
    return np.asarray(theta / np.linalg.norm(theta, axis=1, keepdims=True))


def thinnest(points: Array) -> float:
    """Smallest standard deviation min over |u| = 1 of std(points @ u) of points (N, d); 0 if N <= d.

    Through the covariance, so that less than 10**-8 of the largest is rounding.
    """
    count, dimensions = points.shape
    if count <= dimensions:
        return 0.0
    size = float(unit(largest(points)))
    points = points / size
    centred = points - points.mean(axis=0)
    return size * float(np.sqrt(max(np.linalg.eigvalsh(centred.T @ centred / count)[0], 0.0)))


def uniformity(tau: Array, mass: Array | None = None) -> float:
    """Kolmogorov-Smirnov distance sup_t |F(t) - t| of depths (N,), with masses (N,), from the uniform law on [0, 1]."""
    count, order = len(tau), np.argsort(tau, kind="stable")
    ordered = tau[order]
    if mass is None or mass.min() == mass.max():
        steps = np.arange(count + 1) / count
    else:
        steps = np.append(0.0, np.cumsum(mass[order]) / mass.sum())
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def view(fresh: Array, iid: list[Array]) -> View:
    """View of fresh draws (Q, d) with the scores of iid clouds, two at least, (N, d) each."""
    distance = np.array([nearest(fresh, cloud) for cloud in iid])  # (clouds, Q)
    radius = float(np.quantile(distance, QUANTILE))
    return View(fresh, radius, list((distance <= radius).mean(axis=1)), list(distance.max(axis=1)))


def covered(view: View, distance: Array) -> Beside:
    """Fraction of the fresh draws at most a radius away, from their distances (Q,), beside the iid clouds'."""
    return beside(float((distance <= view.radius).mean()), view.coverage)


def _separation(points: Array) -> float:
    return smallest_gap(points) if len(points) > 1 else float("nan")
