"""Reference laws on Theta x [0, 1], and values that stand beside those of N independent draws from one.

A coverage of 0.6 or a covering radius of 4 means nothing by itself in 34 dimensions. Beside the value for N iid draws
of a law that has full support it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from wgflow.base import rng
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, real, whole
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem

Law: TypeAlias = Callable[[int, int], tuple[Array, Array]]  # (count, seed) -> theta (count, P), tau (count,)


class Beside(NamedTuple):
    """A value of a cloud beside that of N independent draws from a reference law.

    Attributes
    ----------
    value : float
        The cloud's.
    iid : float
        Mean over several clouds of N iid draws.
    spread : float
        Standard deviation over those clouds.
    """

    value: float
    iid: float
    spread: float

    @property
    def ratio(self) -> float:
        """Return value / iid, e.g. 0.94 for "support like 94% of an iid cloud's"; nan where iid is 0."""
        return self.value / self.iid if self.iid else float("nan")


def beside(value: float, iid: Sequence[float]) -> Beside:
    """Mean and standard deviation of the iid clouds' values, two at least, next to a value."""
    return Beside(float(value), float(np.mean(iid)), float(np.std(iid, ddof=1)))


def sphere(parameters: int, radius: float = 1.0) -> Law:
    """Uniform law on the sphere |theta| = radius in R^P times [0, 1]; raises InputError for bad numbers."""
    return _radial("sphere", parameters, radius, 0.0)


def ball(parameters: int, radius: float = 1.0) -> Law:
    """Uniform law on the ball |theta| <= radius in R^P times [0, 1]; raises InputError for bad numbers."""
    return _radial("ball", parameters, radius, 1.0 / max(parameters, 1))


def box(parameters: int, radius: float = 1.0) -> Law:
    """Uniform law on the box [-radius, radius]^P times [0, 1]; raises InputError for bad numbers."""
    parameters = whole("parameters", parameters)
    radius = real("radius", radius, above=0.0)
    return partial(_in_box, parameters, radius)


def initial(problem: Problem, scale: Mapping[str, float] | None = None, tau: str = "uniform") -> Law:
    """Law of :meth:`Particles.draw`: a Gaussian theta with the given scale by group, and a tau."""
    Particles.draw(problem, 1, 0, scale, tau)  # says now what is wrong with a name
    return partial(_as_drawn, problem, scale, tau)


LAWS: dict[str, Callable[[int, float], Law]] = {"sphere": sphere, "ball": ball, "box": box}


def law(name: str, parameters: int, radius: float = 1.0) -> Law:
    """Look up a reference law by name: sphere, ball or box.

    Raises
    ------
    InputError
        If the name is unknown or a number is out of range.
    """
    return lookup("reference law", name, LAWS)(parameters, radius)


def draws(law: Law, count: int, seed: int, number: int, purpose: str = "clouds") -> list[tuple[Array, Array]]:
    """Draw independent clouds from a law, ``number`` of them with ``count`` points each.

    Their seeds are hashed from ``seed`` and the purpose, so that a run that was itself started from the law with a
    small seed is not compared with its own start, and draws for two purposes are independent.

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


def pooled(clouds: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """All draws of several clouds as one, theta and tau."""
    return np.concatenate([theta for theta, _ in clouds]), np.concatenate([tau for _, tau in clouds])


def _radial(name: str, parameters: int, radius: float, power: float) -> Law:
    parameters = whole("parameters", parameters)
    radius = real("radius", radius, above=0.0)
    return partial(_in_ball, name, parameters, radius, power)


# Laws are these functions with all but their last two arguments filled in, so that they can be pickled.


def _in_ball(name: str, parameters: int, radius: float, power: float, count: int, seed: int) -> tuple[Array, Array]:
    direction = rng.normal(seed, f"reference {name}", (count, parameters))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth, share = rng.uniform(seed, f"reference {name}, depth and radius", (count, 2)).T
    return radius * (share**power)[:, None] * direction, depth


def _in_box(parameters: int, radius: float, count: int, seed: int) -> tuple[Array, Array]:
    numbers = rng.uniform(seed, "reference box", (count, parameters + 1))
    return radius * (2 * numbers[:, :-1] - 1), numbers[:, -1]


def _as_drawn(
    problem: Problem, scale: Mapping[str, float] | None, tau: str, count: int, seed: int
) -> tuple[Array, Array]:
    drawn = Particles.draw(problem, count, seed, scale, tau)
    return drawn.theta, drawn.tau
