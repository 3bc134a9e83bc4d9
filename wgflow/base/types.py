"""Letters, array aliases, and the records that all parts of wgflow exchange: Velocity and Frame.

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
        d tau_i / ds, before the boundary condition at 0 and 1.
    energy : float
        E(rho), a by-product of the velocity.
    dissipation : float
        -dE/ds of the continuous flow along this velocity, never negative.
    """

    theta: Array
    tau: Array
    energy: float
    dissipation: float

    def __repr__(self) -> str:
        count, parameters = np.shape(self.theta)
        return f"Velocity(N={count}, P={parameters}, E={self.energy:.4g}, dissipation={self.dissipation:.4g})"


@dataclass(frozen=True, eq=False, repr=False)
class Frame(Copyable):
    """A recorded state of a flow, from which a run can continue (``flow.run(frame, ...)``).

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
        -dE/ds of the continuous flow at this state, with mobility and the boundary condition in depth.
    switches : int
        Order switches (pairs of particles that changed places in depth) since the start; Gaps only, otherwise 0.
    h : float
        Step length to try next, > 0.
    observables : mapping of str to float or ndarray
        Further quantities that the caller measured at this state.
    balance : EnergyBalance, optional
        Energy balance of all steps so far; None with minibatches, noise, and operators that do not say that they
        descend, which have none.
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

    def __repr__(self) -> str:
        return f"Frame(step={self.step}, s={self.s:g}, N={np.size(self.tau)}, E={self.energy:.4g})"

    def __eq__(self, other: object) -> bool:
        """Whether all numbers are equal; NaN equals NaN."""
        if not isinstance(other, Frame):
            return NotImplemented
        names = [field.name for field in fields(self) if field.name != "observables"]
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        pairs += [(value, other.observables.get(name)) for name, value in self.observables.items()]
        return self.observables.keys() == other.observables.keys() and all(_same(*pair) for pair in pairs)

    @property
    def particles(self) -> wgflow.Particles:
        """The empirical measure with its masses; ``free`` where a depth lies outside [0, 1].

        Raises
        ------
        InputError
            If the frame has no particles, since the run recorded numbers alone, or an entry is not finite.
        """
        if not np.size(self.tau):
            raise InputError(
                "frame: expected particles, got a frame without any, from a run that recorded numbers alone; "
                "set record = 'particles' in the study"
            )
        free = bool(((self.tau < 0) | (self.tau > 1)).any())
        return wgflow.Particles(self.theta, self.tau, self.mass, free=free)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    left, right = np.asarray(a), np.asarray(b)
    return np.array_equal(left, right, equal_nan=left.dtype.kind == right.dtype.kind == "f")
