"""Scaling against overflow: units (powers of two) in which squares are representable, norms, spread of columns.

Division by a power of two is exact, so results do not depend on it, and numbers of ordinary size keep their bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.types import Array

_ORDINARY = 2.0**-250, 2.0**250  # sizes whose fourth powers neither overflow nor underflow
_EPS = float(np.finfo(np.float64).eps)
_ULPS = 4  # of a column's mean, the deviation that rounding alone may cause


class Columns(NamedTuple):
    """Mean and standard deviation of the columns of an array, in units chosen by column.

    Attributes
    ----------
    unit : ndarray (C,)
        Powers of two, 1 for columns of ordinary size.
    mean, deviation : ndarray (C,)
        In these units.
    constant : ndarray (C,), bool
        Whether a column varies by no more than rounding.
    """

    unit: Array
    mean: Array
    deviation: Array
    constant: NDArray[np.bool_]


def unit(size: Any) -> Any:
    """Power of two near a size >= 0, or near each of several: 1 for 0, ordinary sizes, and non-finite ones."""
    low, high = _ORDINARY
    ordinary = (size == 0) | ((size >= low) & (size <= high)) | ~np.isfinite(size)
    exponent = np.maximum(np.frexp(np.where(ordinary, 1.0, size))[1] - 4, -1074)  # 2 or 4 times it is finite too
    return np.where(ordinary, 1.0, np.ldexp(1.0, exponent))[()]


def largest(values: Array, axis: int | None = None) -> Any:
    """Largest absolute value, 0 if there is none."""
    return np.abs(values).max(axis=axis, initial=0.0)


def norms(rows: Array) -> Array:
    """Euclidean norms of rows (N, d), (N,)."""
    own = unit(largest(rows, 1))
    return np.asarray(own * np.linalg.norm(rows / own[:, None], axis=1))


def comparable(*samples: Array) -> tuple[list[Array], float]:
    """Samples in a unit in which the squared distances between their points neither overflow nor underflow.

    Parameters
    ----------
    *samples : ndarray (N, d)
        Finite points, the first sample not empty. Samples with ordinary differences are returned unchanged, others
        relative to the first point.

    Returns
    -------
    samples : list of ndarray
        The samples.
    unit : float
        Factor for distances, a power of two.
    """
    quarter = 0.25 if max(map(largest, samples)) > _ORDINARY[1] else 1.0  # differences of the largest numbers overflow
    first = quarter * samples[0][:1]
    own = float(unit(max(largest(quarter * sample - first) for sample in samples)))
    if own == 1.0:
        return list(samples), 1.0
    return [(quarter * sample - first) / own for sample in samples], own / quarter


def column_spread(values: Array) -> Columns:
    """Mean and standard deviation of each column of an array (N, C), N >= 1.

    A column counts as constant if its values differ by rounding alone, that is, if their deviation is at most a few
    units in the last place of their mean. The mean of the deviations is subtracted, so no error grows with N.
    """
    own = unit(largest(values, 0))
    scaled = values / own
    mean, deviation = scaled.mean(axis=0), scaled.std(axis=0)
    variance = deviation**2 - (scaled - mean).mean(axis=0) ** 2
    return Columns(own, mean, deviation, variance <= (_ULPS * _EPS * mean) ** 2)
