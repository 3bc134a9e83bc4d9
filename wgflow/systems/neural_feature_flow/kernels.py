"""The elementwise parts of a network's passes, compiled; :mod:`.elementwise` defines them.

The matrix products between them are NumPy's, that is, BLAS. Numba is imported, and the loops are compiled or loaded
from disk, when a network first asks for them; the cache folder follows the sources of these loops and of the kernels
they call, under the rule of :mod:`wgflow.kernels.cache`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from wgflow.kernels import cache
from wgflow.kernels.codes import ACTIVATION_CODES
from wgflow.kernels.cpu.buffers import keep_freed_memory
from wgflow.kernels.cpu.threads import available_threads, run_chunks
from wgflow.model.activations import Activation
from wgflow.systems.neural_feature_flow.low_rank import AnyArray

_PIECE = 2**15  # entries below which a second thread does not pay off


@functools.cache
def compiled() -> Any:
    """Functions ``activate``, ``layer``, ``seed``, ``pull`` and ``push`` of float64 arrays."""
    source = Path(__file__).with_name("fused_loops.py")
    with cache.exclusive(source):
        from numba import boolean, float64, int64, njit, types, void

        from wgflow.kernels.cpu.functions import FLAGS
        from wgflow.systems.neural_feature_flow import fused_loops

        def given(dimensions: int) -> Any:  # inputs are read-only, which writable arrays satisfy too
            return types.Array(float64, dimensions, "C", readonly=True)

        a, row, out, kind = given(2), given(1), float64[:, ::1], (int64, float64)
        signatures: dict[Any, Any] = {
            fused_loops.activate: void(*kind, a, out, out),
            fused_loops.layer: void(*kind, *kind, boolean, a, float64, a, out, out, out, out, out),
            fused_loops.seed: void(row, row, a, a, out, out),
            fused_loops.pull: void(boolean, a, float64, a, a, a, out, out),
            fused_loops.push: void(boolean, a, float64, a, float64, a, a, a, out, out, out),
        }
        loops = {}
        for function, signature in signatures.items():
            loops[function.__name__] = njit(signature, cache=True, **FLAGS)(function.py_func)
        return SimpleNamespace(**loops)


class Fused:
    """The parts of :class:`wgflow.systems.neural_feature_flow.elementwise.Elementwise`, compiled, for real features.

    Every entry is computed by itself, so results do not depend on the number of threads.

    Parameters
    ----------
    h1, h2 : Activation
        Built-in activations.
    skip : bool
        Whether a layer is added to the one below it.
    """

    def __init__(self, h1: Activation, h2: Activation, skip: bool) -> None:
        self._loops, self.skip, self._threads = compiled(), skip, available_threads()
        self._kind1, self._kind2 = (
            (ACTIVATION_CODES[h.name], 0.5 if h.parameter is None else h.parameter) for h in (h1, h2)
        )
        keep_freed_memory()

    def activate(self, beta: AnyArray) -> tuple[AnyArray, AnyArray]:
        """See :class:`.elementwise.Elementwise`."""
        h, slope = self._apart(self._loops.activate, self._kind1, beta, count=2)
        return h, slope

    def bend(self, alpha: AnyArray) -> AnyArray:
        """See :class:`.elementwise.Elementwise`."""
        _, bend = self._apart(self._loops.activate, self._kind2, alpha, count=2)
        return bend

    def layer(
        self, product: AnyArray, scale: float, beta: AnyArray
    ) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]:
        """See :class:`.elementwise.Elementwise`."""
        before = (*self._kind1, *self._kind2, self.skip)
        alpha, above, h, slope, bend = self._apart(self._loops.layer, before, product, scale, beta, count=5)
        return alpha, above if self.skip else alpha, h, slope, bend

    def seed(self, outer: AnyArray, d_output: AnyArray, slope: AnyArray, bend: AnyArray) -> tuple[AnyArray, AnyArray]:
        """See :class:`.elementwise.Elementwise`."""
        d_beta, d_alpha = np.empty_like(slope), np.empty_like(slope)
        self._loops.seed(outer, d_output, slope, bend, d_beta, d_alpha)
        return d_beta, d_alpha

    def pull(
        self, product: AnyArray, scale: float, d_beta: AnyArray, slope: AnyArray, bend: AnyArray | None
    ) -> tuple[AnyArray, AnyArray]:
        """See :class:`.elementwise.Elementwise`."""
        last = slope if bend is None else bend  # without a bend the second result is not wanted
        below, d_alpha = self._apart(self._loops.pull, (self.skip,), product, scale, d_beta, slope, last, count=2)
        return below, below if bend is None else d_alpha

    def push(
        self,
        through: AnyArray,
        scale: float,
        anew: AnyArray,
        weight: float,
        g_beta: AnyArray,
        bend: AnyArray,
        slope: AnyArray,
    ) -> tuple[AnyArray, AnyArray, AnyArray]:
        """See :class:`.elementwise.Elementwise`."""
        arguments = (through, scale, anew, weight, g_beta, bend, slope)
        g_alpha, above, moved = self._apart(self._loops.push, (self.skip,), *arguments, count=3)
        return g_alpha, above, moved

    def _apart(self, loop: Any, before: tuple[Any, ...], *arguments: Any, count: int) -> list[AnyArray]:
        """Outputs of a loop over rows, which are shared out to the threads."""
        arguments = tuple(np.ascontiguousarray(each) if isinstance(each, np.ndarray) else each for each in arguments)
        shape = arguments[0].shape
        out = [np.empty(shape) for _ in range(count)]
        parts = max(1, min(self._threads, shape[0] * shape[1] // _PIECE))
        step = -(-shape[0] // parts)

        def work(part: int) -> None:
            rows = slice(part * step, (part + 1) * step)
            loop(*before, *(each[rows] if isinstance(each, np.ndarray) else each for each in (*arguments, *out)))

        run_chunks(work, parts, self._threads)
        return out
