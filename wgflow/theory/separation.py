"""Separation property of the particles at one depth, as far as N points can have it.

Global convergence asks of the start, at one depth t0 alone, that every path between two sets meets its support: the
spheres r_a S^(k-1) and r_b S^(k-1) for 2-homogeneous blocks (Ding, Chen, Li and Wright, arXiv:2110.02926, Theorem 6.1),
{-r0} x R^(k-1) and {r0} x R^(k-1) for f = theta_[1] fhat(x, theta_[2]) with a number theta_[1] (Theorem 6.2). The flow
keeps it (Lemma H.2). It is a property of the support of a law, and proved or refuted in closed form for the initial
laws (:func:`separation_of_law`).

No finite set separates anything in more than one dimension, so that N particles never have the property. What is
measured of them is the straight paths: rays from the origin, segments along theta_[1] from -r0 to r0. All of them meet
the support exactly if its *shadow* is everything: theta/|theta|, or theta_[2] of the points with |theta_[1]| <= r0.
Separation needs a full shadow and is more: theta_[1] = 0.3 sign(theta_[2]) has one, and a path passes between its two
halves. Shadows of N particles are compared with those of N independent draws of a law. They never prove separation;
they refute that the particles are draws of that law where they leave a half-space empty that its draws do not. The
measures are derived here.

The theorem asks for some r0, and shadows are those for one r0. The half-space theta_[1] >= 2 separates for r0 > 2 and
not for r0 < 2; the cone theta_[1] >= |theta_[2]| for no r0, with a full shadow at r0 = infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from wgflow.base.errors import InputError, describe
from wgflow.base.scaling import column_spread, norms
from wgflow.base.types import Array, Index
from wgflow.base.validate import finite_array, real, whole
from wgflow.energy import Energy
from wgflow.model.depth import Deposit, Depth, Intervals, Layers
from wgflow.model.initial_laws import Sphere
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, Assumption, Condition, Finding, Verdict, listed, verdict_of
from wgflow.theory.homogeneity import leading_group
from wgflow.theory.reference_laws import IidComparison, InitialLaw, Law, compare_with_iid, draws, initial_law
from wgflow.theory.support import CoverageReference, directions
from wgflow.theory.surrounding import extent, lacks, surrounds

Kind: TypeAlias = Literal["2-homogeneous", "partially 1-homogeneous"]
_ENSEMBLES = 19
_EXTENTS = 99  # ensembles whose half-spaces are compared: that more than 5% of draws lack what all have, 0.95**99 < 1%


@dataclass(frozen=True)
class Separation:
    """Shadow of N particles at one depth, compared with that of N iid draws.

    Attributes
    ----------
    kind : {"2-homogeneous", "partially 1-homogeneous"}
        Which theorem's sets are to be separated, and so which shadow is measured.
    covered : IidComparison
        Fraction of the shadows of fresh draws that have a particle's within r, r the 95% quantile of that distance for
        iid ensembles, which have 0.95.
    hole, largest_iid : IidComparison, float
        Largest distance of such a shadow from the nearest particle's, and the largest of the iid ensembles': the
        covering angle in degrees, or for the second kind in standard deviations of the law.
    low, high : float
        Range of |theta|, within which the particles can separate r_a S^(k-1) from r_b S^(k-1); or of theta_[1]
        (|theta_[1]| if it is a vector), r0 being at least its size.
    surrounds : bool
        Whether the shadows lie in no closed half-space: no v != 0 has v . x <= 0 for all of them. Separation needs it.
    lacking : bool
        Whether the shadows leave a half-space empty that none of 99 iid ensembles leaves empty, or span fewer
        dimensions than each of them: of iid draws the case with probability 5% at most, but for ensembles drawn with
        probability 0.95**99 < 1%.
    lacking_for_all : bool
        The same of the shadows of all particles, whatever their |theta_[1]|, and so for every r0.
    r0 : float
        Bound of |theta_[1]| of the particles that cast a shadow; infinite for the first kind.
    inside : int
        Particles within it.
    """

    kind: Kind
    covered: IidComparison
    hole: IidComparison
    largest_iid: float
    low: float
    high: float
    surrounds: bool
    lacking: bool
    lacking_for_all: bool
    r0: float
    inside: int

    @property
    def verdict(self) -> Verdict:
        """Fail if the shadows lack what those of the law have, for this r0; else unknown, never pass."""
        return "fail" if self.lacking else "unknown"


class SeparationEstimator:
    """Estimator of the shadow of N particles at one depth, compared with N independent draws.

    Parameters
    ----------
    problem : Problem
        Fixes the block, whose homogeneity decides the kind. Of a ridge block with one column, D = 1, a is the theorem's
        theta_[1]. In more columns a = |a| u is no number times an inner parameter in R^(k-1): |a| >= 0 is taken as
        theta_[1] and u as inner: the same block, and not literally the theorem's set. Where a = 0 there is no u.
    count : int
        N >= 1.
    law : callable, optional
        ``law(count, seed) -> (theta, tau)``; by default the initial law with its default scales.
    fresh, ensembles : int, optional
        Q >= 20 fresh draws. Iid ensembles, >= 2: another has a larger hole than all of them with probability
        1/(ensembles + 1).
    seed : int, optional
        Seed of everything drawn.
    r0 : float, optional
        Bound > 0 of |theta_[1]| for the second kind; by default the median of the law, so that half of its draws are
        within.

    Raises
    ------
    InputError
        If the block has neither homogeneity, a number is out of range, or the law returns other shapes.
    """

    def __init__(
        self,
        problem: Problem,
        count: int,
        law: Law | None = None,
        fresh: int = 1000,
        ensembles: int = _ENSEMBLES,
        seed: int = 0,
        r0: float | None = None,
    ) -> None:
        self.kind: Kind = kind(problem)
        self._problem, self._linear = problem, _linear(problem)
        law = initial_law(problem) if law is None else law
        drawn = draws(law, whole("count", count), seed, whole("ensembles", ensembles, 2))
        drawn += draws(law, whole("fresh", fresh, 20), seed, 1, "fresh draws")
        *ensembles_of_law, fresh_draws = (self._fitting("theta of the law", theta) for theta, _ in drawn)
        self.r0 = np.inf
        if self.kind != "2-homogeneous":
            self.r0 = float(np.median(np.abs(self._size(fresh_draws)))) if r0 is None else real("r0", r0, above=0.0)
        points = self._raw(fresh_draws)
        iid = [self._raw(self._within(theta, self.r0)) for theta in ensembles_of_law]
        others = [self._fitting("theta of the law", theta) for theta, _ in draws(law, count, seed, _EXTENTS, "extents")]
        self._extent = extent([self._raw(self._within(theta, self.r0)) for theta in others])
        self._extent_for_all = extent([self._raw(theta) for theta in others])
        iid = [shadow for shadow in iid if len(shadow)]
        if not len(points) or len(iid) < 2:
            raise InputError(
                "law: expected draws whose shadow is somewhere, got a law that keeps them at 0 or beyond r0"
            )
        self._scale = np.ones(points.shape[1])
        if self.kind != "2-homogeneous" and len(points) > 1:
            spread = column_spread(points)
            self._scale = np.where(spread.constant, 1.0, spread.unit * spread.deviation)
        self._reference = CoverageReference(points / self._scale, [ensemble / self._scale for ensemble in iid])

    def measure(self, theta: Array, moved: float = 0.0) -> Separation:
        """Measure the particles of one depth, theta (N, P), without those of mass 0, which are not in the support.

        A flow that moved theta_[1] by at most ``moved`` carries a set that separates for r0 to one that separates for
        r0 + ``moved``, the bound used then. Raises InputError if the shape does not fit or a number is not finite.
        """
        theta, r0 = self._fitting("theta", theta), self.r0 + real("moved", moved, least=0.0)
        inside = self._within(theta, r0)
        shadow = self.shadow(inside)
        distance, size = self._reference.distances(shadow), self._size(theta)
        iid = [self._unit(float(distance)) for distance in self._reference.covering]
        return Separation(
            self.kind,
            self._reference.covered(distance),
            compare_with_iid(self._unit(float(distance.max())), iid),
            max(iid),
            float(size.min()),
            float(size.max()),
            surrounds(shadow),
            lacks(shadow, self._extent),
            lacks(self._raw(theta), self._extent_for_all),
            r0,
            len(inside),
        )

    def shadow(self, theta: Array) -> Array:
        """Where the straight paths through particles theta (N, P) begin: directions, or inner parameters scaled."""
        return self._raw(theta) / self._scale

    def moved(self, start: Array, theta: Array) -> float:
        """Largest displacement of theta_[1] between two states (N, P) of the same particles; 0 for the first kind."""
        if self.kind == "2-homogeneous":
            return 0.0
        return float(norms(theta[:, self._linear] - start[:, self._linear]).max(initial=0.0))

    def _fitting(self, name: str, theta: Array) -> Array:
        theta, columns = finite_array(name, theta, 2), self._problem.shape[3]
        if theta.shape[1] != columns:
            raise InputError(f"{name}: expected {columns} columns, as the block has parameters, got {theta.shape[1]}")
        return theta

    def _raw(self, theta: Array) -> Array:
        if self.kind == "2-homogeneous":
            return directions(theta)
        outer, inner = theta[:, self._linear], np.delete(theta, self._linear, axis=1)
        if outer.shape[1] == 1:
            return inner
        moving = outer.any(axis=1)
        return np.column_stack([directions(outer), inner[moving]])

    def _size(self, theta: Array) -> Array:
        outer = theta if self.kind == "2-homogeneous" else theta[:, self._linear]
        return np.asarray(outer[:, 0] if outer.shape[1] == 1 else norms(outer))

    def _within(self, theta: Array, r0: float) -> Array:
        return theta if r0 == np.inf else theta[np.abs(self._size(theta)) <= r0]

    def _unit(self, distance: float) -> float:
        """Distance in the unit of holes: on the sphere the angle of a chord, in degrees."""
        return float(np.degrees(2 * np.arcsin(min(1.0, distance / 2)))) if self.kind == "2-homogeneous" else distance


def kind(problem: Problem) -> Kind:
    """Tell which theorem covers the block, 6.1 before 6.2; raises InputError if neither does."""
    if problem.block.degree(problem.activation) == 2:
        return "2-homogeneous"
    if leading_group(problem) is not None:
        return "partially 1-homogeneous"
    raise InputError(
        f"block: expected one that is 2-homogeneous or linear in a parameter group, as Theorems 6.1 and 6.2 ask, got "
        f"{problem.block.name} with {problem.activation.name}; use ridge, say"
    )


def at_depth(depth: Depth, rho: Particles, t0: float) -> Index:
    """Rows (n,) of the particles with mass in the layer of depth t0, possibly none; InputError for t0 outside [0, 1].

    A particle that the scheme deposits on several layers counts for the one in which its depth lies, or the middle of
    its interval.
    """
    if not 0 <= real("t0", t0) <= 1:
        raise InputError(f"t0: expected a depth in [0, 1], got {describe(t0)}")
    slices = Layers(depth.layers) if isinstance(depth, Deposit | Intervals) else depth
    particle, t, share = depth.points(rho)
    middle = np.minimum(np.bincount(particle, share * t, minlength=len(rho)), 1.0)
    place, own = (slices.sample(rho, each).layer[:, 0] for each in (np.array([t0]), middle))
    return np.flatnonzero((own == place) & (rho.mass > 0))


def separation(
    energy: Energy, rho: Particles, t0: float = 0.5, law: Law | None = None, r0: float | None = None
) -> Assumption:
    """Check whether the particles at depth t0 contradict the separation property; they never prove it.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme.
    t0 : float, optional
        Depth in [0, 1].
    law, r0 : callable, float, optional
        As for :class:`SeparationEstimator`, whose defaults hold for the rest.

    Returns
    -------
    Assumption
        ``number`` is the fraction of the shadow covered. ``fail`` if the shadows lack a half-space, or a dimension,
        that those of 99 ensembles of as many draws of the law have, for the r0 given or else for every r0: of draws of
        the law the case with probability 5% at most. Otherwise ``unknown``: finitely many particles separate nothing,
        and a law without the property can have the shadow of one that has it.

    Raises
    ------
    InputError
        As for :class:`SeparationEstimator`, or if no particle lies at t0.
    """
    rows = at_depth(energy.depth, rho, t0)
    if not len(rows):
        raise InputError(f"t0: expected a depth with particles, got none at {t0:g}")
    estimator = SeparationEstimator(energy.problem, len(rows), law, r0=r0)
    measured = estimator.measure(rho.theta[rows])
    unit = " degrees" if measured.kind == "2-homogeneous" else " standard deviations"
    which = f"{len(rows)} particles"
    if measured.r0 < np.inf:
        which = f"{measured.inside} of {len(rows)} particles, those with |theta_[1]| <= r0 = {measured.r0:.3g},"
    lacking = measured.lacking_for_all if r0 is None else measured.lacking
    name = "their law has the separation property" + ("" if r0 is None else f" for r0 = {measured.r0:.3g}")
    reason = "finitely many particles separate nothing, and a law without the property can have these shadows"
    if lacking:
        reason = (
            "their shadows lack a half-space or a dimension, as of draws of the reference law those of none of "
            f"{_EXTENTS} ensembles do, p <= 0.05"
        )
    condition = Condition(name, "refuted" if lacking else "not checked", reason)
    sentence = (
        f"At t0 = {t0:g} the shadows of {which} cover {measured.covered.value:.2f} of the law's "
        f"(iid {measured.covered.iid:.2f}); the largest hole is {measured.hole.value:.3g}{unit} "
        f"(iid {measured.hole.iid:.3g}, at most {measured.largest_iid:.3g} in {_ENSEMBLES} ensembles); "
        f"{'no half-space is' if measured.surrounds else 'a half-space is'} empty. {listed([condition])}"
    )
    theorem = "6.1" if measured.kind == "2-homogeneous" else "6.2"
    source = f"{DING}, Theorem {theorem}"
    verdict = verdict_of([condition])
    return Assumption("separation", verdict, measured.covered.value, sentence, source, (condition,))


def separation_of_law(law: InitialLaw) -> Assumption:
    """Separation property of an initial law, in closed form; the sample's is that of :func:`separation`.

    ``number`` is 1 if it is proved, 0 if refuted, NaN if not checked. With all scales positive, a Gaussian has full
    support; a ball contains a neighbourhood of 0, and a sphere in all columns surrounds it. Of {-r0} x R^(k-1) and
    {r0} x R^(k-1) a support separates if it holds some c x R^(k-1), and does not if theta_[2] is bounded. A scale of 0
    leaves a hyperplane, which a path can go around in two dimensions or more.
    """
    problem, theta = law.problem, law.theta
    inside, flat = theta.columns(problem), bool((law.spread == 0).any())
    which, sphere = kind(problem), isinstance(theta, Sphere)
    if which == "2-homogeneous":
        name = "the law separates r_a S^(k-1) from r_b S^(k-1) for some r_a < r_b (Theorem 6.1)"
        holds: bool | None = not flat and (bool(inside.all()) or not sphere)
        reason = "it holds a neighbourhood of 0, or surrounds it" if holds else "a path stays off its support"
    else:
        name = "the law separates {-r0} x R^(k-1) from {r0} x R^(k-1) for some r0 (Theorem 6.2)"
        columns = _linear(problem)
        others = np.delete(np.arange(len(inside)), columns)
        free = not (inside[others].any() or (law.spread[others] == 0).any())
        holds = free if len(columns) == 1 else None
        reason = "theta_[2] has full support given theta_[1]" if free else "theta_[2] is bounded: a path goes around"
        if holds is None:
            reason = f"theta_[1] has {len(columns)} columns"
    finding: Finding = "not checked" if holds is None else "proved" if holds else "refuted"
    condition = Condition(name, finding, f"law {theta.name}: {reason}")
    number = float("nan") if holds is None else float(holds)
    said = listed([condition])
    return Assumption("separation of the law", verdict_of([condition]), number, said, DING, (condition,))


def _linear(problem: Problem) -> Index:
    """Columns of theta_[1], if any."""
    group = leading_group(problem)
    return np.empty(0, np.int64) if group is None else np.arange(problem.shape[3])[problem.groups[group]]
