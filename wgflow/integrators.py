"""Explicit Runge-Kutta methods as tables, and the one step that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wgflow.errors import lookup
from wgflow.types import Array

Drift = Callable[[Array, Array, float], tuple[Array, Array]]


class Tableau(NamedTuple):
    """Butcher table of an explicit method.

    Attributes
    ----------
    name : str
        Its name in studies.
    order : int
        Order of accuracy in h.
    a : tuple of tuples
        Row j holds the weights of stages 0..j in the argument of stage j + 1.
    b : tuple of float
        Weights of the stages in the step.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]


EULER = Tableau("euler", 1, (), (1.0,))
HEUN = Tableau("heun", 2, ((1.0,),), (0.5, 0.5))
RK4 = Tableau("rk4", 4, ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))

INTEGRATORS: dict[str, Tableau] = {each.name: each for each in (EULER, HEUN, RK4)}


def integrator(choice: str | Tableau) -> Tableau:
    """Look up a method by name; a :class:`Tableau` is passed through.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if isinstance(choice, Tableau):
        return choice
    return lookup("integrator", choice, INTEGRATORS)


def step(
    table: Tableau, drift: Drift, theta: Array, tau: Array, s: float, first: tuple[Array, Array], h: float
) -> tuple[Array, Array]:
    """One explicit step of d(theta, tau)/ds = drift(theta, tau, s).

    Parameters
    ----------
    table : Tableau
        The method.
    drift : callable
        Velocities (N, P), (N,) at a state; takes care of states beyond the ends of depth itself.
    theta, tau : ndarray (N, P), (N,)
        State at s.
    s : float
        Flow time.
    first : (ndarray, ndarray)
        ``drift(theta, tau, s)``, which the caller has already.
    h : float
        Step length in s.

    Returns
    -------
    theta, tau : ndarray (N, P), (N,)
        State at s + h, not yet brought back into [0, 1].
    """
    stages = [first]
    for row in table.a:
        stages.append(drift(*_combine(theta, tau, row, stages, h), s + h * sum(row)))
    return _combine(theta, tau, table.b, stages, h)


def _combine(
    theta: Array, tau: Array, row: tuple[float, ...], stages: list[tuple[Array, Array]], h: float
) -> tuple[Array, Array]:
    for weight, (v_theta, v_tau) in zip(row, stages, strict=True):
        if weight:
            move = (h * weight) * v_theta
            move += theta
            theta, tau = move, tau + (h * weight) * v_tau
    return theta, tau
