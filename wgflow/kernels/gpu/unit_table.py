"""Ridge units of a block as a table: the position of each of their numbers in theta."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.errors import BackendError
from wgflow.base.types import Index
from wgflow.model.blocks import Unfolding

ZERO, ONE = -1, -2  # constants in a table, as in sums.cu


class UnitTable(NamedTuple):
    """Positions of the numbers [a | w | b] of a particle's units in theta, and the inverse.

    Attributes
    ----------
    source : ndarray (H, 2 D + 1), int64
        Column of theta, or ``ZERO`` or ``ONE``.
    target : ndarray (P,), int64
        Position of each column of theta in ``source``, row by row.
    """

    source: Index
    target: Index

    @property
    def units(self) -> int:
        """Number of units of a particle, H."""
        return len(self.source)


def unit_table(block: Unfolding, width: int, parameters: int) -> UnitTable:
    """Table of a block, from unfolding a particle whose parameters all differ.

    Raises
    ------
    BackendError
        If the units contain anything but parameters, zeros and ones, or a parameter twice; built-in blocks do not.
    """
    probe = np.arange(parameters) + 2.0  # neither 0 nor 1
    rows = np.asarray(block.unfold(probe[None], width)).reshape(block.units(width), 2 * width + 1)
    source = np.where(rows == 0, ZERO, np.where(rows == 1, ONE, rows - 2)).astype(np.int64)
    places, columns = np.flatnonzero(source.ravel() >= 0), source.ravel()[source.ravel() >= 0]
    if not np.array_equal(np.sort(columns), np.arange(parameters)):
        raise BackendError(
            f"backend 'gpu': block {getattr(block, 'name', block)!r} does not take each parameter once and as it is; "
            "use --backend cpu"
        )
    target = np.empty(parameters, np.int64)
    target[columns] = places
    return UnitTable(source, target)
