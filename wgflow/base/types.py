"""Letters, array aliases, and the two records that every part of wgflow hands on.

Letters, the same in every docstring:

====== ===========================================
N      particles (residual blocks)
P      parameters of one particle
M      samples
D      state width
K      outputs
L      depth nodes (layers)
F      frames of a trajectory
Q      query points of Theta x [0, 1]
s      flow (training) time
tau, t depth in [0, 1]
h      one flow step
====== ===========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

import wgflow
from wgflow.base.copies import Copyable
from wgflow.base.energy_balance import EnergyBalance
from wgflow.base.errors import InputError

Array: TypeAlias = NDArray[np.floating[Any]]  # real numbers, float64 unless said otherwise
Index: TypeAlias = NDArray[np.int64]
Spec: TypeAlias = dict[str, Any]  # plain JSON


class Velocity(NamedTuple):
    """Velocity of the Wasserstein gradient flow at one empirical measure.

    Attributes
    ----------
    theta : ndarray (N, P)
        d theta_i / ds.
    tau : ndarray (N,)
        d tau_i / ds, before any wall of [0, 1] is taken into account.
    energy : float
        E(rho), which comes with the velocity at no cost.
    dissipation : float
        -dE/ds of the continuous flow along this velocity, never negative.
    """

    theta: Array
    tau: Array
    energy: float
    dissipation: float


@dataclass(frozen=True, eq=False)
class Frame(Copyable):
    """One recorded state of a flow; enough to go on from (``flow.run(frame, ...)``).

    Attributes
    ----------
    step : int
        Flow steps taken since the start, >= 0.
    s : float
        Flow time.
    theta, tau, mass : ndarray (N, P), (N,), (N,)
        The empirical measure.
    energy : float
        E(rho) at this state.
    dissipation : float
        -dE/ds of the continuous flow at this state, with mobility and the walls of depth taken into account.
    switches : int
        Pairs of particles that have changed places in depth since the start (Gaps only; 0 otherwise).
    h : float
        Step length that will be tried next, > 0.
    observables : mapping of str to float or ndarray
        Whatever else the caller measured at this state.
    balance : EnergyBalance, optional
        Balance of energy over all steps up to here; None where there is none, as with noise or minibatches.
    """

    step: int
    s: float
    theta: Array
    tau: Array
    mass: Array
    energy: float
    dissipation: float
    switches: int = 0
    h: float = 0.0
    observables: Mapping[str, Any] = field(default_factory=dict)
    balance: EnergyBalance | None = None

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are the same; NaN equals NaN."""
        if not isinstance(other, Frame):
            return NotImplemented
        mine, others = vars(self), vars(other)
        measured = mine["observables"], others["observables"]
        names = [each.name for each in fields(self) if each.name != "observables"]
        pairs = [(mine[name], others[name]) for name in names]
        pairs += [(measured[0][name], measured[1].get(name)) for name in measured[0]]
        return measured[0].keys() == measured[1].keys() and all(_same(*pair) for pair in pairs)

    @property
    def particles(self) -> wgflow.Particles:
        """The empirical measure with its masses; ``free`` where a depth lies outside [0, 1].

        Raises
        ------
        InputError
            If the frame holds no particles, as those of a run that recorded numbers alone, or an entry is not finite.
        """
        if not np.size(self.tau):
            raise InputError(
                "frame: expected particles, got a frame without any, of a run that recorded numbers alone; "
                "set record = 'particles' in the study"
            )
        free = bool(((self.tau < 0) | (self.tau > 1)).any())
        return wgflow.Particles(self.theta, self.tau, self.mass, free=free)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    left, right = np.asarray(a), np.asarray(b)
    return np.array_equal(left, right, equal_nan=left.dtype.kind == right.dtype.kind == "f")
