"""Solution of the convex programme on a grid of features, and the optimality gap of a trained network.

The optimum is over all masses and connections on one fixed grid of features, as :mod:`.convex` states it. A network's
own features are such a grid; its regularised loss minus the optimum is the largest improvement that other masses and
connections could bring on these features. A gap of 0 says nothing about other features, and along a training run the
gap need not fall, since the grid moves with the network.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.systems.neural_feature_flow import convex
from wgflow.systems.neural_feature_flow.constraints import Constraint, Dual, constraints, lower_bound, project, squared
from wgflow.systems.neural_feature_flow.convex import CUT, Cost, Point, Strength
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features, Weights

SOLVERS: dict[str, dict[str, Any]] = {  # cvxpy's name and settings
    "clarabel": {"solver": "CLARABEL"},
    "scs": {"solver": "SCS", "eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 50_000},
}
_EMPTY = 1e-8  # share of 1/m below which the solver's mass is 0


class Optimum(NamedTuple):
    """Solution of the convex programme.

    Attributes
    ----------
    value, loss, regulariser : float
        Objective and its parts at ``omega`` and ``p``, by :func:`.convex.objective`: an upper bound on the optimum if
        ``residual`` is at rounding level.
    bound : float
        Lower bound from the multipliers by :func:`.constraints.lower_bound`, valid up to rounding however accurate the
        solver.
    omega, p : tuple of L ndarrays
        The solver's point, see :class:`.convex.Point`, with masses below 1e-8/m set to 0 and the constraints restored.
    residual : float
        Largest violation of the constraints, features times mass; includes what cut and slack allow.
    dual : Dual
        Multipliers.
    status, solver : str
        As cvxpy reports them.
    solver_value, solver_gap : float
        The solver's own objective, and that minus ``bound``.
    iterations : int
        Iterations of the solver.
    """

    value: float
    loss: float
    regulariser: float
    bound: float
    omega: tuple[Array, ...]
    p: tuple[Array, ...]
    residual: float
    dual: Dual
    status: str
    solver: str
    solver_value: float
    solver_gap: float
    iterations: int


class OptimalityGap(NamedTuple):
    """Distance of a network from the optimum on the grid of its own features.

    Attributes
    ----------
    gap : float
        ``own.value - optimum.bound``, >= the true gap >= 0 up to ``rounding``.
    own : Cost
        The network's regularised loss.
    optimum : Optimum
        The optimum.
    rounding : float
        |sum_l <M_l, rows_l omega_l - targets_l p_l>| at the network's own point, by which its constraints, met up to
        rounding only, could make the gap wrong.
    """

    gap: float
    own: Cost
    optimum: Optimum
    rounding: float


def reformulate(
    network: Network,
    grid: Features,
    lam: Strength,
    first: ArrayLike | None = None,
    slack: float = 0.0,
    cut: float = CUT,
    solver: str | None = None,
) -> Optimum:
    """Minimum of the objective over all masses p and connections omega on a grid of features.

    Parameters
    ----------
    network, grid, lam
        As in :func:`.convex.objective`; squared loss.
    first : array_like (m_1,), optional
        p_1, the law of v_1, where it is not free. In a Res-Net it is the law of all layers.
    slack, cut : float, optional
        See :func:`.constraints.constraints`.
    solver : {"clarabel", "scs"}, optional
        By default Clarabel, an interior-point method, and SCS, a splitting method, where it fails.

    Returns
    -------
    Optimum
        Best point found with its bound from below.

    Raises
    ------
    InputError
        If cvxpy is not installed, an argument does not fit, features are out of reach, or no solver finds a point.
    """
    squared(network)
    sizes, strength = convex.check_grid(network, grid), convex.strengths(network, lam)
    given = None if first is None else convex.law(first, sizes[0])
    limits = constraints(network, grid, slack, cut)
    programme = _Programme(network, grid, strength, limits, given)
    names = list(SOLVERS) if solver is None else [solver]
    for name in names:
        if programme.solve(lookup("solver", name, SOLVERS)):
            break
    else:
        raise InputError(
            f"grid: expected a programme that {' or '.join(names)} can solve, got status {programme.problem.status!r}; "
            "with a given first law its units may not span the features above, else raise cut or lam"
        )
    point = project(limits, programme.point())
    cost = convex.objective(network, grid, point, strength)
    slope = point.omega[-1] @ network.h1.value(grid.beta[-1]) - network.y
    dual = Dual(slope, programme.multipliers())
    bound = lower_bound(network, grid, strength, limits, dual, given)
    value, stats = float(programme.problem.value), programme.problem.solver_stats
    return Optimum(
        *(*cost, bound, *point, convex.residual(network, grid, point), dual),
        status=str(programme.problem.status),
        solver=str(stats.solver_name),
        solver_value=value,
        solver_gap=value - bound,
        iterations=int(stats.num_iters or 0),
    )


def optimality_gap(
    network: Network,
    weights: Weights,
    lam: Strength,
    first_free: bool = True,
    cut: float = CUT,
    solver: str | None = None,
) -> OptimalityGap:
    """Regularised loss of a network minus the optimum on the grid of its own features.

    Parameters
    ----------
    weights : Weights
        The network's; its features are computed from them.
    first_free : bool, optional
        Whether p_1 may change; otherwise it is uniform (in a Res-Net that of all layers).
    network, lam, cut, solver
        As in :func:`reformulate`, and so are errors.
    """
    grid = network.features(weights)
    m, point = len(weights.outer), convex.lift(weights)
    optimum = reformulate(network, grid, lam, None if first_free else np.full(m, 1 / m), cut=cut, solver=solver)
    own = convex.objective(network, grid, point, lam)
    limits = constraints(network, grid, cut=cut)
    layers = zip(optimum.dual.layers, limits, point.omega, point.p[1:], strict=False)
    rounding = abs(sum(float((d * (c.rows @ w - c.targets * p)).sum()) for d, c, w, p in layers))
    return OptimalityGap(own.value - optimum.bound, own, optimum, rounding)


class _Programme:
    """The programme in variables of order 1: q_l = m_l p_l and w_l = m_(l-1) m_l omega_l, w_(L+1) = m_L omega_(L+1)."""

    def __init__(
        self, network: Network, grid: Features, strength: Array, limits: Sequence[Constraint], first: Array | None
    ) -> None:
        self.cp = cp = _cvxpy()
        self.sizes = sizes = convex.check_grid(network, grid)
        self.cones: list[Any] = []
        self.q = self._laws(network, first)
        self.w = [cp.Variable(shape) for shape in pairwise(sizes)] + [cp.Variable(sizes[-1])]
        self.layers = [self._layer(k, limit) for k, limit in enumerate(limits)]
        output = network.h1.value(grid.beta[-1]).T @ self.w[-1] / sizes[-1]
        cost = 0.5 / network.points * cp.sum_squares(output - network.y)
        for k, w in enumerate(self.w):
            cost += strength[k] * self._penalty(w, self.q[k], sizes[k])
        layers = (layer for layer in self.layers if layer is not None)
        self.problem = cp.Problem(cp.Minimize(cost), [*self.cones, *layers])

    def _laws(self, network: Network, first: Array | None) -> list[Any]:
        laws: list[Any] = []
        for k, m in enumerate(self.sizes):
            if k and network.skip:
                laws.append(laws[0])
            elif k == 0 and first is not None:
                laws.append(self.cp.Constant(m * first))
            else:
                laws.append(self.cp.Variable(m, nonneg=True))
                self.cones.append(self.cp.sum(laws[-1]) == m)
        return laws

    def _layer(self, k: int, limit: Constraint) -> Any:
        """Constraints of layer k + 2 times sqrt(m_(l-1)) m_l, None where the layer below spans nothing."""
        if not len(limit.rows):
            return None
        root = np.sqrt(self.sizes[k])
        off = limit.rows @ self.w[k] / root - (root * limit.targets) @ self.cp.diag(self.q[k + 1])
        if not limit.radius.any():
            return off == 0
        free = self.cp.Variable(limit.targets.shape)
        self.cones.append(self.cp.SOC(self.cp.multiply(root * limit.radius, self.q[k + 1]), free, axis=0))
        return off - free == 0

    def _penalty(self, w: Any, q: Any, m: int) -> Any:
        """(1/m) sum_i ((1/m') sum_j |w(i, j)|)^2 / q(i) as sum of the t(i) >= s(i)^2 / q(i), a rotated cone each."""
        s, t = self.cp.Variable(m), self.cp.Variable(m)
        self.cones.append(s >= (self.cp.abs(w) if w.ndim == 1 else self.cp.norm(w, 1, axis=1) / w.shape[1]))
        self.cones.append(self.cp.SOC(q + t, self.cp.vstack([2 * s, q - t]), axis=0))
        return self.cp.sum(t) / m

    def solve(self, settings: dict[str, Any]) -> bool:
        """Whether the solver finds a point; the status tells if it is inaccurate, so cvxpy's warning is silenced."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            try:
                self.problem.solve(**settings)
            except self.cp.SolverError:
                return False
        return self.problem.status in ("optimal", "optimal_inaccurate")

    def point(self) -> Point:
        """Solver's point in the variables of the programme, negligible masses set to 0."""
        masses = [np.where(q.value > _EMPTY, q.value, 0.0) for q in self.q]
        laws = tuple(mass / mass.sum() for mass in masses)
        scales = [*(a * b for a, b in pairwise(self.sizes)), self.sizes[-1]]
        omega = [np.asarray(w.value, dtype=float) / scale for w, scale in zip(self.w, scales, strict=True)]
        between = (np.where(p > 0, w, 0.0) for w, p in zip(omega, laws[1:], strict=False))
        return Point((*between, omega[-1]), laws)

    def multipliers(self) -> tuple[Array, ...]:
        """Multipliers of the constraints, which the solver has times sqrt(m_(l-1)) m_l."""
        out = []
        for (below, m), layer in zip(pairwise(self.sizes), self.layers, strict=True):
            value = np.zeros((0, m)) if layer is None else np.asarray(layer.dual_value, dtype=float).reshape(-1, m)
            out.append(np.sqrt(below) * m * value)
        return tuple(out)


def _cvxpy() -> Any:
    try:
        import cvxpy
    except ImportError as error:
        raise InputError(f"reformulate: expected cvxpy, got no such package; {install('convex')}") from error
    return cvxpy
