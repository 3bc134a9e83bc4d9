"""Division of a network into groups of units, for the GPU kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.types import Index

# Columns of the table of groups, as in network.cu.
FIELDS = ("entry", "count", "slot", "slots", "state", "flag")
TRIANGLE, OPENS, CLOSES = 1, 2, 4  # flags: several layers; first piece of its layer; last piece
_CHUNK = 8  # slots of a group are a multiple of it


class Groups(NamedTuple):
    """Groups of a network, each up to G consecutive units: several whole layers, or a piece of one wide layer.

    Attributes
    ----------
    table : ndarray (groups, 6), int64
        First unit, number of units, first slot, number of slots, index of the state at its start, flags.
    of_unit : ndarray (E H,), int64
        Group of each unit.
    layer : ndarray (E,), int64
        Layer of each entry.
    slots : int
        Slots of all groups.
    states : int
        States at starts of groups; the pieces of a wide layer share one.
    """

    table: Index
    of_unit: Index
    layer: Index
    slots: int
    states: int


def group(first: Index, units: int, size: int) -> Groups:
    """Divide a network into groups.

    Parameters
    ----------
    first : ndarray (L + 1,), int64
        Layer k holds the entries first[k] <= e < first[k + 1].
    units : int
        Units of an entry, H, all in its layer.
    size : int
        Units of a group at most, a multiple of 8.
    """
    rows, state, slot = [], 0, 0
    for entry, last, layers in _runs(first * units, size):
        for low in range(entry, last, size):
            count = min(size, last - low)
            slots = -(-count // _CHUNK) * _CHUNK
            flag = TRIANGLE * (layers > 1) | OPENS * (low == entry) | CLOSES * (low + size >= last)
            rows.append((low, count, slot, slots, state, flag))
            slot += slots
        state += 1
    table = np.array(rows, np.int64).reshape(-1, len(FIELDS))
    return Groups(
        table,
        np.repeat(np.arange(len(table)), table[:, 1]),
        np.repeat(np.arange(len(first) - 1), np.diff(first)),
        slot,
        state,
    )


def _runs(first: Index, size: int) -> list[tuple[int, int, int]]:
    """First unit, end and number of layers of each run: as many whole layers as fit in a group, or one wide layer."""
    runs: list[tuple[int, int, int]] = []
    entry, last, layers = 0, 0, 0
    for end in first[1:].tolist():
        if end == last:  # an empty layer
            continue
        if layers and end - entry > size:
            runs.append((entry, last, layers))
            entry, layers = last, 0
        last, layers = end, layers + 1
    if layers:
        runs.append((entry, last, layers))
    return runs
