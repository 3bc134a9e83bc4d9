"""Agreement of gradient descent with the neural feature flow, and of the flow's features with its weights.

Fang, Lee, Yang and Zhang (COLT 2021), Algorithms 1 and 3 and Definition 2.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import diverged, opened, particle_count
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow.optimum import optimality_gap
from wgflow.systems.neural_feature_flow.system import from_trajectory, state_of
from wgflow.trajectory import Trajectory

STRENGTH = 1e-4  # of the convex programme's regularisers
_SMALL = 60  # units up to which it is solved in a second
DETACHED = 0.02  # defect over spread of units from which on the flow counts as not resolved


class Run(NamedTuple):
    """A network along its frames.

    Attributes
    ----------
    kind, units, method : str, int, str
        Of the network, m, and what moves it.
    s, energy, defect, weights : ndarray (F,)
        Flow time, loss, constraint defect, and loss of the network that the weights make.
    spread : ndarray (F, L - 1)
        Largest difference of two units' features, layers 2 to L.
    heldout : float
        Loss on held-out samples at the end; NaN without any.
    diverged : bool
        Whether it diverged after its last frame.
    """

    kind: str
    units: int
    method: str
    s: Array
    energy: Array
    defect: Array
    spread: Array
    weights: Array
    heldout: float
    diverged: bool = False

    @property
    def resolved(self) -> float:
        """Flow time up to which features are those of their weights: a defect below 2% of the units' spread."""
        off = ~(self.defect <= DETACHED * self.spread.min(axis=1))  # NaN is not resolved
        return float(self.s[max(0, int(np.argmax(off)) - 1)] if off.any() else self.s[-1])


class Bounded(NamedTuple):
    """A network compared with the optimum over its own features, at the first and the last frame.

    Attributes
    ----------
    kind, units : str, int
        The network's.
    s, gap : ndarray (2,)
        Flow times, and regularised loss minus a certified lower bound of the convex programme on its features.
    """

    kind: str
    units: int
    s: Array
    gap: Array


class FlowAndDescent(NamedTuple):
    """Networks of a run that have two frames, and the optimality gaps of the small ones."""

    runs: list[Run]
    bounded: list[Bounded]


def feature_flow(work: Workspace) -> FlowAndDescent:
    """Networks along their frames, and the optimality gaps of the small ones.

    Gaps are those of networks by descent that are small enough for the convex programme; there are none where cvxpy is
    not installed, or no file has particles.
    """
    found, solver = FlowAndDescent([], []), importlib.util.find_spec("cvxpy") is not None
    for _, trajectory in opened(work):
        if len(trajectory) > 1:
            run = _run(trajectory)
            found.runs.append(run)
            squared = trajectory.parameters["energy"]["network"]["loss"] == "squared"
            if solver and run.method == "descent" and squared and 0 < trajectory.particles <= _SMALL:
                found.bounded.append(_bounded(run.kind, trajectory))
    return found


def _run(trajectory: Trajectory) -> Run:
    table = trajectory.parameters["study"]["network"]
    names = ("s", "energy", "defect", "unit_spread", "loss_of_weights")
    s, energy, defect, spread, weights = (trajectory.series(name) for name in names)
    heldout = float(trajectory.series("heldout")[-1]) if "heldout" in trajectory.observables else np.nan
    about = (table["kind"], particle_count(trajectory), table["method"])
    return Run(*about, s, energy, defect, spread, weights, heldout, diverged(trajectory))


def _bounded(kind: str, trajectory: Trajectory) -> Bounded:
    system, ends = from_trajectory(trajectory), [trajectory[0], trajectory[-1]]
    gaps = [optimality_gap(system.network, state_of(system, frame).weights, STRENGTH).gap for frame in ends]
    return Bounded(kind, system.units, np.array([frame.s for frame in ends]), np.array(gaps))


def apart(one: Array, other: Array) -> Array:
    """Difference of two losses over the smaller of them, at their common frames; infinite where one is no number."""
    count = min(len(one), len(other))  # one may have diverged
    one, other = one[:count], other[:count]
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.where(one == other, 0.0, np.abs(one - other) / np.minimum(one, other))
    return np.where(np.isnan(difference), np.inf, difference)


def row(run: Run) -> Spec:
    """Start and end of a network, as plain JSON."""
    return {
        "kind": run.kind, "m": run.units, "method": run.method, "s": float(run.s[-1]),
        "loss_first": float(run.energy[0]), "loss_last": float(run.energy[-1]),
        "loss_of_weights_last": float(run.weights[-1]), "defect_largest": float(run.defect.max()),
        "resolved_until": run.resolved, "spread_least": float(run.spread[-1].min()),
    }  # fmt: skip
