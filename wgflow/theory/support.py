"""Full support, as far as N particles can have it: coverage, directions, covering radius, separation, depths.

A stationary point of full support is a global minimiser (Lu, Ma, Lu, Lu and Ying, arXiv:2003.05508; the separation of
spheres that Ding, Chen, Li and Wright, arXiv:2110.02926, Theorem 6.1, ask for is a statement about directions). N
particles never have full support, so every number is compared with that of N independent draws from a law that has it.
The measures are derived here, not taken from a paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.scaling import column_spread, largest, unit
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, whole
from wgflow.theory import reference_laws
from wgflow.theory.nearest_neighbours import nearest_distances, smallest_distance
from wgflow.theory.reference_laws import IidComparison, Law, compare_with_iid

QUANTILE = 0.95  # coverage of an iid ensemble, by construction


@dataclass(frozen=True)
class Support:
    """How much of a reference law's support N particles reach, compared with N iid draws.

    Attributes
    ----------
    coverage : IidComparison
        Fraction of fresh draws (theta, tau) within r of the nearest particle, r the 95% quantile of that distance for N
        iid draws; an iid ensemble has 0.95.
    directions : mapping of str to IidComparison
        The same for theta/|theta|, under ``"theta"``, and for each parameter group under its name.
    covering : IidComparison
        Largest distance of a fresh draw from its nearest particle, in standard deviations of the law.
    separation : IidComparison
        Smallest distance between two particles, in the same unit; nan for one particle.
    thinnest : IidComparison
        Smallest standard deviation in any direction of (theta, tau), in the same unit. In high dimension the middle of
        a sphere is nearer to its points than they are to each other, so that particles confined to a subspace can have
        a larger coverage than iid ones: this number detects it.
    tau : IidComparison
        Kolmogorov-Smirnov distance of the depths from the uniform law on [0, 1].
    iid : tuple of float
        :attr:`ratio` of ensembles of N iid draws: a minimum of several numbers, it is below 1 for few particles.
    """

    coverage: IidComparison
    directions: Mapping[str, IidComparison]
    covering: IidComparison
    separation: IidComparison
    thinnest: IidComparison
    tau: IidComparison
    iid: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        """Smallest of 1 and the ratios of coverage, directions of theta and thinnest: "support like 94% of iid"."""
        parts = [self.coverage, self.thinnest, *(part for name, part in self.directions.items() if name == "theta")]
        return min([1.0] + [part.ratio for part in parts if part.iid > 0])  # N <= P + 1 iid draws are thin themselves


class CoverageReference:
    """Fresh draws of a law in some coordinates, (Q, d), and how near at least two iid ensembles, (N, d), come to them.

    Attributes
    ----------
    radius : float
        Distance within which an iid ensemble has 95% of them.
    covering : list of float
        Distance of the farthest fresh draw from each iid ensemble.
    """

    def __init__(self, fresh: Array, iid: list[Array]) -> None:
        distance = np.array([nearest_distances(fresh, ensemble) for ensemble in iid])  # (ensembles, Q)
        self.fresh, self.radius = fresh, float(np.quantile(distance, QUANTILE))
        self._coverage, self.covering = list((distance <= self.radius).mean(axis=1)), list(distance.max(axis=1))

    def distances(self, sample: Array) -> Array:
        """Distances (Q,) of the fresh draws from a sample in the same coordinates; infinite from an empty one."""
        return nearest_distances(self.fresh, sample) if len(sample) else np.full(len(self.fresh), np.inf)

    def covered(self, distance: Array) -> IidComparison:
        """Fraction of the fresh draws within the radius, from their distances (Q,), compared with iid."""
        return compare_with_iid(float((distance <= self.radius).mean()), self._coverage)


class SupportEstimator:
    """Estimator of the support of N particles, compared with N independent draws.

    Distances between pairs (theta, tau) are taken after dividing each column by the law's standard deviation; columns
    that the law does not vary are left as they are.

    Parameters
    ----------
    law : callable
        ``law(count, seed) -> (theta, tau)``, e.g. of :mod:`wgflow.theory.reference_laws`.
    count : int
        N >= 1.
    draws : int, optional
        Q fresh draws, >= 20.
    ensembles : int, optional
        Ensembles of N iid draws behind means, standard deviations and the radius, >= 2.
    seed : int, optional
        Seed of everything drawn.
    groups : mapping of str to slice, optional
        Columns of theta whose directions are measured too, e.g. ``problem.groups``; a group that is 0 under the law has
        none and is left out.

    Raises
    ------
    InputError
        If a number is out of range, or the law returns other shapes.
    """

    def __init__(
        self,
        law: Law,
        count: int,
        draws: int = 2000,
        ensembles: int = 8,
        seed: int = 0,
        groups: Mapping[str, slice] | None = None,
    ) -> None:
        iid = reference_laws.draws(law, whole("count", count), seed, whole("ensembles", ensembles, least=2))
        fresh = reference_laws.draws(law, whole("draws", draws, least=20), seed, 1, "fresh draws")[0]
        self.parameters = iid[0][0].shape[1]
        pooled = [np.concatenate(arrays) for arrays in zip(*iid, fresh, strict=True)]
        parts = [column_spread(pooled[0]), column_spread(pooled[1][:, None])]
        spread = np.concatenate([part.unit * part.deviation for part in parts])
        self.scale = np.where(np.concatenate([part.constant for part in parts]), 1.0, spread)
        iid_points = [self._points(*ensemble) for ensemble in iid]
        self._joint = CoverageReference(self._points(*fresh), iid_points)
        self._separation, self._thinnest = list(map(_separation, iid_points)), list(map(thinnest, iid_points))
        self._tau = [uniformity(depths) for _, depths in iid]
        self._groups = {"theta": slice(None)} | dict(groups or {})
        self._directions = {}
        for name, columns in self._groups.items():
            samples = [directions(theta[:, columns]) for theta, _ in (fresh, *iid)]
            if all(map(len, samples)):
                self._directions[name] = CoverageReference(samples[0], samples[1:])
        self._ratios = tuple(self._measure(*ensemble).ratio for ensemble in iid)

    def measure(self, theta: Array, tau: Array, mass: Array | None = None) -> Support:
        """Measure N particles.

        Parameters
        ----------
        theta, tau : ndarray (N, P), (N,)
            The particles. If there are not ``count`` of them, they are still compared with ``count`` iid draws.
        mass : ndarray (N,), optional
            Their masses >= 0, by default equal. Particles of mass 0 are not in the support and are left out; apart
            from that only the law of the depths depends on the masses.

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
            got = f"{len(mass)} from {mass.min():g} to {mass.max():g}"
            raise InputError(f"mass: expected {len(tau)} weights >= 0, not all 0, got {got}")
        kept = mass > 0
        return replace(self._measure(theta[kept], tau[kept], mass[kept]), iid=self._ratios)

    def _measure(self, theta: Array, tau: Array, mass: Array | None = None) -> Support:
        points = self._points(theta, tau)
        distance = self._joint.distances(points)
        return Support(
            self._joint.covered(distance),
            {
                name: reference.covered(reference.distances(directions(theta[:, self._groups[name]])))
                for name, reference in self._directions.items()
            },
            compare_with_iid(distance.max(), self._joint.covering),
            compare_with_iid(_separation(points), self._separation),
            compare_with_iid(thinnest(points), self._thinnest),
            compare_with_iid(uniformity(tau, mass), self._tau),
        )

    def _points(self, theta: Array, tau: Array) -> Array:
        return np.column_stack([theta, tau]) / self.scale


def directions(theta: Array) -> Array:
    """Directions theta/|theta| of the rows (N, P) that are not 0."""
    theta = theta[theta.any(axis=1)]
    theta = theta / unit(largest(theta, 1))[:, None]
    return np.asarray(theta / np.linalg.norm(theta, axis=1, keepdims=True))


def thinnest(points: Array) -> float:
    """Smallest standard deviation min over |u| = 1 of std(points @ u) of points (N, d); 0 if N <= d.

    Computed from the covariance, so that values below 10**-8 of the largest are rounding.
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


def _separation(points: Array) -> float:
    return smallest_distance(points) if len(points) > 1 else float("nan")
