"""Reference laws on Theta x [0, 1], and comparison of a value with that of N independent draws from one.

A coverage of 0.6 or a covering radius of 4 means nothing by itself in 34 dimensions; compared with the value of N iid
draws of a law that has full support it does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index, Spec
from wgflow.base.validate import finite_array
from wgflow.model.initial_laws import ThetaLaw, theta_law
from wgflow.model.particles import Particles, scales
from wgflow.model.problem import Problem

Law: TypeAlias = Callable[[int, int], tuple[Array, Array]]  # (count, seed) -> theta (count, P), tau (count,)


class IidComparison(NamedTuple):
    """Value of an ensemble of N particles, and of N independent draws from a reference law.

    Attributes
    ----------
    value : float
        Value of the ensemble.
    iid, spread : float
        Mean and standard deviation over several iid ensembles.
    """

    value: float
    iid: float
    spread: float

    @property
    def ratio(self) -> float:
        """Ratio value / iid, e.g. 0.94 for "support like 94% of an iid ensemble's"; NaN where iid is 0."""
        return self.value / self.iid if self.iid else float("nan")


def compare_with_iid(value: float, iid: Sequence[float]) -> IidComparison:
    """Compare a value with those of at least two iid ensembles."""
    return IidComparison(float(value), float(np.mean(iid)), float(np.std(iid, ddof=1)))


@dataclass(frozen=True)
class InitialLaw:
    """Law of :meth:`Particles.draw` with uniform depths, which can be pickled.

    Attributes
    ----------
    problem : Problem
        The problem.
    scale : mapping of str to float, optional
        Standard deviations by parameter group.
    theta : ThetaLaw
        Law of theta in units of the scale.
    """

    problem: Problem
    scale: Mapping[str, float] | None
    theta: ThetaLaw

    def __call__(self, count: int, seed: int) -> tuple[Array, Array]:
        """Draw theta (count, P) and tau (count,)."""
        particles = Particles.draw(self.problem, count, seed, self.scale, "uniform", law=self.theta)
        return particles.theta, particles.tau

    @property
    def spread(self) -> Array:
        """Scale of every column, (P,)."""
        return self.problem.by_column(scales(self.problem, self.scale))

    def bound(self, columns: Index) -> float:
        """Supremum of |theta_c| over the support, with theta_c the given columns; infinite if there is none.

        It is max_c scale_c times the bound of the law: the ball of the law has a point on each axis.
        """
        spread = self.spread[columns]
        if (spread[~self.theta.columns(self.problem)[columns]] > 0).any():
            return math.inf
        size = getattr(self.theta, "bound", 0.0) if (spread > 0).any() else 0.0
        return float(size * spread.max(initial=0.0))


def initial_law(
    problem: Problem, scale: Mapping[str, float] | None = None, theta: ThetaLaw | Spec | str = "gaussian"
) -> InitialLaw:
    """Law of :meth:`Particles.draw` with uniform depths; raises InputError for wrong names."""
    law = InitialLaw(problem, scale, theta_law(theta))
    law(1, 0)  # checks the names
    return law


def draws(law: Law, count: int, seed: int, number: int, purpose: str = "clouds") -> list[tuple[Array, Array]]:
    """Draw ``number`` independent ensembles of ``count`` particles from a law.

    Their seeds are hashed from ``seed`` and the purpose, so that a run that started from the law with a small seed is
    not compared with its own start, and draws for two purposes are independent.

    Raises
    ------
    InputError
        If the law does not return theta (count, P) and tau (count,), finite.
    """
    out = []
    for own in (rng.uniform(seed, f"reference {purpose}", (number, 1))[:, 0] * 2**52).astype(np.uint64):
        drawn = law(count, int(own))
        if not isinstance(drawn, tuple) or len(drawn) != 2:
            raise InputError(f"law: expected (theta, tau) of {count} draws, got {describe(drawn)}")
        theta, tau = finite_array("theta of the law", drawn[0], 2), finite_array("tau of the law", drawn[1], 1)
        if len(theta) != count or len(tau) != count:
            raise InputError(f"law: expected {count} draws of theta and tau, got {len(theta)} and {len(tau)}")
        out.append((theta, tau))
    return out
