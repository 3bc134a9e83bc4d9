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
from numpy.typing import ArrayLike, NDArray

from wgflow.copies import Copyable
from wgflow.errors import InputError, describe

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


@dataclass(frozen=True)
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


def finite_array(name: str, value: ArrayLike, dimensions: int) -> Array:
    """Copy a caller's numbers into a read-only float64 array, row by row in memory.

    Parameters
    ----------
    name : str
        What the caller calls them, for the message.
    value : array_like
        Real, finite, not empty.
    dimensions : int
        Dimensions the array must have.

    Raises
    ------
    InputError
        If it is anything else.
    """
    columns = getattr(value, "columns", None) if hasattr(value, "to_numpy") else None  # of a DataFrame
    if columns is not None:
        value = _side_by_side(name, value, columns)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":  # no complex numbers, no strings of digits
            raise TypeError
        array = np.array(array, dtype=np.float64, order="C")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected an array of real numbers, got {describe(value)}") from error
    if array.ndim != dimensions or array.size == 0:
        word = "matrix" if dimensions == 2 else "list"
        raise InputError(f"{name}: expected a non-empty {word} of {dimensions} dimension(s), got shape {array.shape}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "column"), bad[0].tolist(), strict=False))
        at += f" ({str(columns[bad[0][1]])!r})" if columns is not None else ""
        raise InputError(
            f"{name}: expected finite numbers, got {len(bad)} that are not, the first {array[tuple(bad[0])]} at {at}; "
            "remove or impute them"
        )
    array.flags.writeable = False
    return array


def _side_by_side(name: str, table: Any, columns: Any) -> Array:
    """Columns of a DataFrame as a matrix; raises InputError with the name of one that holds no numbers."""
    parts = [np.asarray(table[column]) for column in columns]
    for column, part in zip(columns, parts, strict=True):
        if part.dtype.kind not in "biuf":
            kind = getattr(table[column], "dtype", part.dtype)
            raise InputError(
                f"{name}: expected columns of real numbers, got {str(column)!r} of type {kind}; drop it or code it"
            )
    return np.column_stack(parts) if parts else np.empty((len(table), 0))


def real(name: str, value: object, *, above: float = -np.inf, least: float = -np.inf) -> float:
    """Check one real number of a caller's.

    Parameters
    ----------
    name : str
        What the caller calls it, for the message.
    value : object
        A finite real number.
    above, least : float, optional
        Bounds: value > above, value >= least.

    Raises
    ------
    InputError
        If it is anything else.
    """
    value = scalar(value)
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not (above < value < np.inf and value >= least):  # type: ignore[operator] # good says it is a number
        bound = f" > {above:g}" if above > -np.inf else f" >= {least:g}" if least > -np.inf else ""
        raise InputError(f"{name}: expected a finite number{bound}, got {describe(value)}")
    return float(value)  # type: ignore[arg-type]


def whole(name: str, value: object, least: int = 1) -> int:
    """Check one whole number of a caller's, at least ``least``; raises InputError."""
    value = scalar(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}: expected a whole number >= {least}, got {describe(value)}")
    return value


def scalar(value: Any) -> Any:
    """Python's own number in place of one of NumPy's; anything else as it is.

    A number in single precision becomes the shortest decimal that it stands for: ``np.float32(0.1)`` is 0.1, which
    divides 1 evenly, and not 0.10000000149.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating) and value.dtype != np.float64:
        return float(str(value))
    return value.item() if isinstance(value, np.bool_ | np.integer | np.float64) else value


def settle(record: object) -> None:
    """Replace NumPy's numbers in the fields of a dataclass by Python's; for ``__post_init__``."""
    for each in fields(record):  # type: ignore[arg-type] # it is the caller's to be one
        value = getattr(record, each.name)
        plain = type(value)(map(scalar, value)) if type(value) in (list, tuple) else scalar(value)
        object.__setattr__(record, each.name, plain)
