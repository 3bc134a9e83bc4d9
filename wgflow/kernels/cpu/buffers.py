"""Working memory kept between evaluations."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


class Lent(NamedTuple):
    """A buffer lent by a pool: the memory, the shapes of the arrays in it, and the arrays."""

    flat: NDArray[Any]
    shapes: tuple[Shape, ...]
    arrays: list[NDArray[Any]]


class BufferPool:
    """Arrays reused from one evaluation to the next: fresh pages from the system would cost as much as the work.

    Several threads may borrow at once; arrays that are not given back, as by an evaluation that raises, are dropped.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._free = list[Lent]()

    def lend(self, shapes: tuple[Shape, ...]) -> Lent:
        """Lend uninitialised arrays of these shapes, each beginning on a cache line."""
        try:
            lent = self._free.pop()
        except IndexError:
            lent = Lent(np.empty(0, self._dtype), (), [])
        return lent if lent.shapes == shapes else Lent(*self._divide(lent.flat, shapes))

    def give_back(self, lent: Lent) -> None:
        """Take back arrays that were lent."""
        self._free.append(lent)

    @contextlib.contextmanager
    def arrays(self, *shapes: Shape) -> Iterator[list[NDArray[Any]]]:
        """Lend arrays for a ``with`` statement."""
        lent = self.lend(shapes)
        yield lent.arrays
        self.give_back(lent)

    def _divide(
        self, flat: NDArray[Any], shapes: tuple[Shape, ...]
    ) -> tuple[NDArray[Any], tuple[Shape, ...], list[NDArray[Any]]]:
        """Arrays of these shapes in ``flat``, or in a larger one."""
        line = 64 // self._dtype.itemsize
        ends = list(itertools.accumulate(-(-math.prod(shape) // line) * line for shape in shapes))
        if len(flat) < ends[-1]:
            flat = np.empty(ends[-1] + line, self._dtype)
            flat = flat[-(flat.ctypes.data // self._dtype.itemsize) % line :]
        starts = [0, *ends[:-1]]
        pairs = zip(starts, shapes, strict=True)
        return flat, shapes, [flat[at : at + math.prod(shape)].reshape(shape) for at, shape in pairs]


def keep_freed_memory() -> None:
    """Have the C library keep the memory freed after an evaluation, instead of returning it to the system.

    glibc keeps up to twice the size of the largest mapped array ever freed. Without this array, which is never written
    to, a flow spends a twentieth of its time on page faults. Other C libraries are not affected.
    """
    np.empty(2**24, np.uint8)
