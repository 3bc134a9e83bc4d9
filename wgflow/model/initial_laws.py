"""Initial laws of theta: Gaussian, and laws of bounded support made from the same draws.

All are images of independent standard Gaussians z under a map of the radius alone: theta = scale T(|z|) z/|z|, with T
increasing, so that a path of Gaussians, continuous in depth, becomes a path with the bounded law at every depth. With
chi the distribution function of |z| in d columns, the inverse of a distribution function at a uniform number,

    truncated  T(r) = chi^(-1)(chi(r) chi(bound))   Gaussian given |z| <= bound
    ball       T(r) = bound chi(r)**(1/d)           uniform in the ball |z| <= bound
    sphere     T(r) = bound                         uniform on the sphere |z| = bound

The first is the optimal transport of the Gaussian to a law that is more log-concave, hence 1-Lipschitz (Caffarelli
2000); the second is Lipschitz, with a constant that grows like the bound; the third is not at z = 0, and its paths have
a mean square derivative from d = 3 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import Options, build, check_name
from wgflow.base.scaling import norms
from wgflow.base.types import Array, Spec
from wgflow.base.validate import real
from wgflow.model.problem import Problem

COUPLINGS = ("independent", "path")


@dataclass(frozen=True)
class Gaussian(Options):
    """Independent Gaussian columns; its support is all of R^P."""

    name: ClassVar[str] = "gaussian"

    def columns(self, problem: Problem) -> NDArray[np.bool_]:
        """Whether the law bounds a column, (P,), bool."""
        return np.zeros(problem.shape[3], bool)

    def place(self, z: Array, problem: Problem) -> Array:
        """theta/scale of standard Gaussians z (..., P)."""
        del problem
        return z


@dataclass(frozen=True)
class _Bounded(Options):
    """Initial law under which the parameters of some groups, divided by their scales, lie in a ball.

    Parameters
    ----------
    bound : float
        Radius of the ball, > 0, in units of the scale: |theta_c / scale_c| <= bound over the columns c of the groups.
    groups : sequence of str, optional
        Parameter groups that are bounded, together; all by default. The others stay Gaussian.
    """

    bound: float
    groups: Sequence[str] | None = None

    def _check_options(self) -> None:
        real(f"bound of the law {self.name!r}", self.bound, above=0.0)
        if self.groups is None:
            return
        groups = self.groups
        listed = isinstance(groups, Sequence) and not isinstance(groups, str) and len(groups) > 0
        if not listed or not all(isinstance(name, str) for name in groups):
            raise InputError(
                f"groups of the law {self.name!r}: expected names of parameter groups, such as ['a'], got "
                f"{describe(groups)}; leave it out for all"
            )
        object.__setattr__(self, "groups", tuple(groups))

    def spec(self) -> Spec:
        """Plain JSON of name and options."""
        return {"name": self.name, "bound": self.bound, "groups": None if self.groups is None else list(self.groups)}

    def columns(self, problem: Problem) -> NDArray[np.bool_]:
        """Whether the law bounds a column, (P,), bool; raises InputError for a group that the block has not."""
        inside = np.zeros(problem.shape[3], bool)
        for name in problem.groups if self.groups is None else self.groups:
            check_name("parameter group of the initial law", name, problem.groups)
            inside[problem.groups[name]] = True
        return inside

    def place(self, z: Array, problem: Problem) -> Array:
        """theta/scale of standard Gaussians z (..., P)."""
        inside = self.columns(problem)
        rows = z.reshape(-1, z.shape[-1])[:, inside]
        size = norms(rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            factor = np.where(size > 0, self.radius(size, rows.shape[1]) / size, 0.0)
        out = z.copy()
        out[..., inside] = (rows * factor[:, None]).reshape(*z.shape[:-1], -1)
        return out

    def radius(self, size: Array, dimension: int) -> Array:
        """T of |z| in a number of dimensions."""
        raise NotImplementedError


@dataclass(frozen=True)
class Truncated(_Bounded):
    """Gaussian, given that it lies in the ball."""

    name: ClassVar[str] = "truncated"

    def radius(self, size: Array, dimension: int) -> Array:
        """T of |z| in a number of dimensions."""
        half = 0.5 * dimension
        quantile = gammainc(half, 0.5 * size**2) * gammainc(half, 0.5 * self.bound**2)
        return np.asarray(np.minimum(np.sqrt(2.0 * gammaincinv(half, quantile)), self.bound))


@dataclass(frozen=True)
class Ball(_Bounded):
    """Uniform in the ball."""

    name: ClassVar[str] = "ball"

    def radius(self, size: Array, dimension: int) -> Array:
        """T of |z| in a number of dimensions."""
        return np.asarray(self.bound * gammainc(0.5 * dimension, 0.5 * size**2) ** (1.0 / dimension))


@dataclass(frozen=True)
class Sphere(_Bounded):
    """Uniform on the sphere."""

    name: ClassVar[str] = "sphere"

    def radius(self, size: Array, dimension: int) -> Array:
        """T of |z| in a number of dimensions."""
        return np.full(size.shape, self.bound)


ThetaLaw: TypeAlias = Gaussian | Truncated | Ball | Sphere
LAWS: dict[str, type[ThetaLaw]] = {one.name: one for one in (Gaussian, Truncated, Ball, Sphere)}


def theta_law(choice: object) -> ThetaLaw:
    """Initial law from its name, a table with name and options, or itself; raises InputError otherwise."""
    if isinstance(choice, Gaussian | Truncated | Ball | Sphere):
        return choice
    return build("initial law", choice, LAWS)


def standard_layers(
    coupling: str, t: Array, number: Sequence[int], rows: tuple[int, int], columns: int, seed: int, of: str = ""
) -> Array:
    """Standard Gaussians at depths t (L,) in [0, 1], of particles ``rows[0]`` up to ``rows[1]`` - 1, (L, rows, P).

    ``path``: cos(pi t / 2) Z + sin(pi t / 2) Z', a path for each row. ``independent``: fresh for each ``number`` (L,).
    ``of`` names a network that shares its draws with no other.
    """
    check_name("coupling", coupling, COUPLINGS)
    low, size = rows[0], (rows[1], columns)
    if coupling == "independent":
        return np.stack([rng.normal(seed, f"initial theta, layers{of}", size, step=layer)[low:] for layer in number])
    start, end = (rng.normal(seed, f"initial theta, path {which}{of}", size)[low:] for which in ("start", "end"))
    return np.asarray(np.cos(np.pi / 2 * t)[:, None, None] * start + np.sin(np.pi / 2 * t)[:, None, None] * end)
