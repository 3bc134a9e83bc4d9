"""Explicit Runge-Kutta methods as Butcher tables, some with an embedded method, and the parts of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.scaling import largest, unit
from wgflow.base.types import Array
from wgflow.base.user_objects import Candidate, try_once
from wgflow.base.validate import whole
from wgflow.model.particles import Particles

_MOST_ORDER = 6  # order conditions are checked up to this order
_ROUNDED = 1e-6  # weights may be rounded decimals
_Tree = tuple[Any, ...]

Drift = Callable[[Array, Array, float], tuple[Array, Array]]


class Estimate(NamedTuple):
    """Error estimate of a step: the difference of the two solutions of an embedded pair.

    Attributes
    ----------
    error : float
        Root mean square over the particles of |(theta, tau) - (theta, tau)_low|, >= 0; see :func:`rms`.
    size : float
        Root mean square of |(theta, tau)| over the particles, before or after the step, whichever is larger.
    order : int
        Order q of the lower solution: the error is O(h**(q + 1)).
    """

    error: float
    size: float
    order: int


class Tableau(NamedTuple):
    """Butcher table of an explicit method.

    Attributes
    ----------
    name : str
        Name in studies.
    order : int
        Order of accuracy in h.
    a : tuple of tuples
        Row j holds the weights of stages 0..j in the argument of stage j + 1.
    b : tuple of float
        Weights of the stages in the step.
    b_low : tuple of float or None
        Weights of the same stages in an embedded method of lower order, for the error estimate; None without one.
    order_low : int
        Order of the embedded method; 0 without one.
    """

    name: str
    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_low: tuple[float, ...] | None = None
    order_low: int = 0


EULER = Tableau("euler", 1, (), (1.0,))
HEUN = Tableau("heun", 2, ((1.0,),), (0.5, 0.5), (1.0, 0.0), 1)
# Shu and Osher (1988): the first two stages are Heun's, whose step is the embedded one.
SSP3 = Tableau("ssp3", 3, ((1.0,), (0.25, 0.25)), (1 / 6, 1 / 6, 2 / 3), (0.5, 0.5, 0.0), 2)
RK4 = Tableau("rk4", 4, ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
# Cash and Karp (1990). A pair whose last stage is the next step's first would save nothing here: the loop computes the
# velocity at the end of a step anyway, with the boundary condition and after the operators.
CASH_KARP = Tableau(
    "cash_karp",
    5,
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (3 / 10, -9 / 10, 6 / 5),
        (-11 / 54, 5 / 2, -70 / 27, 35 / 27),
        (1631 / 55296, 175 / 512, 575 / 13824, 44275 / 110592, 253 / 4096),
    ),
    (37 / 378, 0.0, 250 / 621, 125 / 594, 0.0, 512 / 1771),
    (2825 / 27648, 0.0, 18575 / 48384, 13525 / 55296, 277 / 14336, 1 / 4),
    4,
)

INTEGRATORS: dict[str, Tableau] = {table.name: table for table in (EULER, HEUN, SSP3, RK4, CASH_KARP)}
EMBEDDED = tuple(name for name, table in INTEGRATORS.items() if table.b_low is not None)  # those with an error estimate


def integrator(choice: str | Tableau) -> Tableau:
    """Look up a method by name; a :class:`Tableau` is passed through.

    Raises
    ------
    InputError
        If the name is unknown, or a table of your own is not explicit or not of the order it states.
    """
    if isinstance(choice, Tableau):
        if choice != INTEGRATORS.get(choice.name):
            try_once(choice, "integrator", lambda: _try(choice))
        return choice
    if not isinstance(choice, str):
        raise InputError(f"integrator: expected a name or a wgflow.flow.integrators.Tableau, got {describe(choice)}")
    return lookup("integrator", choice, INTEGRATORS)


def _try(table: Tableau) -> None:
    """Refuse a table that is not explicit, or violates the conditions of the order it states."""
    trial, stages = Candidate("integrator", table.name), len(table.b)
    try:
        rows = [np.asarray(row, np.float64) for row in table.a]
        weights = {"b": np.asarray(table.b, np.float64)}
        if table.b_low is not None:
            weights["b_low"] = np.asarray(table.b_low, np.float64)
    except (TypeError, ValueError) as error:
        raise trial.refuse("rows of numbers a, b and b_low", f"{type(error).__name__}: {error}") from error
    if [row.shape for row in rows] != [(j + 1,) for j in range(stages - 1)]:
        raise trial.refuse(
            f"row j of a to have j + 1 weights, {stages - 1} rows for {stages} stages", f"{[len(row) for row in rows]}"
        )
    a = np.zeros((stages, stages))
    for j, row in enumerate(rows):
        a[j + 1, : j + 1] = row
    orders = {"b": table.order, "b_low": table.order_low}
    for name, b in weights.items():
        if b.shape != (stages,) or not (np.isfinite(b).all() and np.isfinite(a).all()):
            raise trial.refuse(f"{stages} finite weights {name}", describe(b))
        order = whole(f"order of {name} of integrator {table.name!r}", orders[name])
        for tree, gamma, phi in _conditions(a, min(order, _MOST_ORDER)):
            if abs(b @ phi - 1 / gamma) > _ROUNDED:
                raise trial.refuse(
                    f"sum of {name} to be 1" if tree == () else f"{name} to fulfil the conditions of order {order}",
                    f"{b @ phi:.6g} for {1 / gamma:.6g}",
                )
    if table.b_low is not None and np.array_equal(weights["b"], weights["b_low"]):
        raise trial.refuse("b_low to differ from b, since their difference estimates the error", "the same weights")


def _conditions(a: Array, order: int) -> Iterator[tuple[_Tree, int, Array]]:
    """Rooted trees t up to an order with gamma(t) and Phi(t): a method has that order if b . Phi(t) = 1/gamma(t).

    Hairer, Norsett and Wanner (Solving Ordinary Differential Equations I), section II.2, theorem 2.13.
    """
    by_size: dict[int, set[_Tree]] = {1: {()}}
    for size in range(2, order + 1):
        by_size[size] = {
            tuple(sorted((*tree, child))) for k in range(1, size) for tree in by_size[size - k] for child in by_size[k]
        }
    for size in range(1, order + 1):
        for tree in sorted(by_size[size]):
            yield tree, *_elementary(a, tree)[1:]


def _elementary(a: Array, tree: _Tree) -> tuple[int, int, Array]:
    """Nodes, gamma and Phi of a tree, which is the tuple of its root's children."""
    nodes, gamma, phi = 1, 1, np.ones(len(a))
    for child in tree:
        size, factor, below = _elementary(a, child)
        nodes, gamma, phi = nodes + size, gamma * factor, phi * (a @ below)
    return nodes, nodes * gamma, phi


def embedded(table: Tableau) -> tuple[float, ...]:
    """Weights of the embedded method of lower order.

    Raises
    ------
    InputError
        If there is none.
    """
    if table.b_low is None:
        raise InputError(
            "integrator: expected one with an error estimate, which the step rule needs, got "
            f"{describe(table.name)}; use one of {', '.join(EMBEDDED)}"
        )
    return table.b_low


def stages(
    table: Tableau, drift: Drift, theta: Array, tau: Array, s: float, first: tuple[Array, Array], h: float
) -> list[tuple[Array, Array]]:
    """Stages of one explicit step of d(theta, tau)/ds = drift(theta, tau, s).

    Parameters
    ----------
    table : Tableau
        The method.
    drift : callable
        Velocities (N, P), (N,) at a state; applies the boundary condition in depth itself.
    theta, tau, s : ndarray (N, P), ndarray (N,), float
        The state, and its flow time.
    first : (ndarray, ndarray)
        ``drift(theta, tau, s)``, already known to the caller.
    h : float
        Step length in s.

    Returns
    -------
    list of (ndarray, ndarray)
        Velocities (N, P), (N,) at the stages in order; :func:`combine` forms a step from them.
    """
    velocities = [first]
    for row in table.a:
        velocities.append(drift(*combine(theta, tau, row, velocities, h), s + h * sum(row)))
    return velocities


def combine(
    theta: Array, tau: Array, weights: tuple[float, ...], velocities: list[tuple[Array, Array]], h: float
) -> tuple[Array, Array]:
    """Move a state along a weighted sum of velocities: (theta, tau) + h sum_j weights_j velocities_j.

    The weights are a row of a table's ``a``, its ``b`` or its ``b_low``. The new state is one before the boundary
    condition; the old one is not modified.
    """
    for weight, (v_theta, v_tau) in zip(weights, velocities, strict=True):
        if weight:
            move = (h * weight) * v_theta
            move += theta
            theta, tau = move, tau + (h * weight) * v_tau
    return theta, tau


def rms(mass: Array, theta: Array, tau: Array) -> float:
    """sqrt(sum_i mass_i (|theta_i|**2 + tau_i**2) / sum_i mass_i) of displacements or positions (N, P), (N,).

    For the displacement between two measures with these masses, of sum 1, it is an upper bound on their Wasserstein
    distance W2. Under Gaps the metric of the flow would weight tau by 1/mass_i instead of mass_i; the size of a state
    would then be dominated by N tau, and a relative error would not control theta. Particles without mass are ignored.
    """
    size = float(unit(max(largest(theta), largest(tau))))
    theta, tau = theta / size, tau / size
    squares = np.einsum("np,np->n", theta, theta) + tau**2
    return size * math.sqrt(float(mass @ squares) / (float(mass.sum()) or 1.0))


def compare(before: Particles, after: Particles, low: Particles, order: int) -> Estimate:
    """Error estimate from the state before a step, after it, and after the step of the embedded method."""
    error = rms(before.mass, after.theta - low.theta, after.tau - low.tau)
    return Estimate(error, max(rms(before.mass, rho.theta, rho.tau) for rho in (before, after)), order)
