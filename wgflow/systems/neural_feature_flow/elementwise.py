"""Elementwise operations between the matrix products of a network's passes, in NumPy or compiled.

The products themselves are BLAS's. Compiled loops make one pass over memory each. They are compiled or loaded from disk
when a network first asks for them; the cache folder follows the sources of the loops and of the kernels they call,
under the rule of :mod:`wgflow.kernels.cache`.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np

from wgflow.kernels import cache
from wgflow.kernels.codes import ACTIVATION_CODES
from wgflow.kernels.cpu.buffers import keep_freed_memory
from wgflow.kernels.cpu.threads import available_threads, run_chunks
from wgflow.model.activations import Activation
from wgflow.systems.neural_feature_flow.low_rank import AnyArray

_PIECE = 2**15  # entries below which a second thread does not pay off
_Two: TypeAlias = tuple[AnyArray, AnyArray]
_Three: TypeAlias = tuple[AnyArray, AnyArray, AnyArray]
_Five: TypeAlias = tuple[AnyArray, AnyArray, AnyArray, AnyArray, AnyArray]


def elementwise(h1: Activation, h2: Activation, skip: bool, backend: str) -> Plain:
    """Elementwise parts of a network, compiled where backend (``cpu``), activations (built in) and Numba allow it."""
    known = all(h.builtin and h.name in ACTIVATION_CODES for h in (h1, h2))
    return _Fused(h1, h2, skip) if backend == "cpu" and known and cache.compiles() else Plain(h1, h2, skip)


class Plain:
    """The definition, in NumPy, for real and complex numbers; all arrays (m, N) unless said otherwise.

    Parameters
    ----------
    h1, h2 : Activation
        Activations.
    skip : bool
        Whether a layer is added to the one below it.
    """

    def __init__(self, h1: Activation, h2: Activation, skip: bool) -> None:
        self.h1, self.h2, self.skip = h1, h2, skip

    def activate(self, beta: AnyArray, /) -> _Two:
        """h1(beta), h1'(beta)."""
        return self.h1.value(beta), self.h1.slope(beta)

    def bend(self, alpha: AnyArray, /) -> AnyArray:
        """h2'(alpha)."""
        return self.h2.slope(alpha)

    def layer(self, product: AnyArray, scale: float, beta: AnyArray, /) -> _Five:
        """Next alpha = scale product, beta, h1(beta), h1'(beta) and h2'(alpha) from the beta below."""
        alpha = scale * product
        # without a skip the two are one array, which callers may rely on
        beta = beta + self.h2.value(alpha) if self.skip else alpha
        return alpha, beta, self.h1.value(beta), self.h1.slope(beta), self.h2.slope(alpha)

    def seed(self, outer: AnyArray, d_output: AnyArray, slope: AnyArray, bend: AnyArray, /) -> _Two:
        """Dbeta_L = (outer d_output^T) o slope and Dalpha_L = Dbeta_L o bend, from (m,) and (N,)."""
        d_beta = np.multiply.outer(outer, d_output) * slope
        return d_beta, d_beta * bend

    def pull(self, product: AnyArray, scale: float, d_beta: AnyArray, slope: AnyArray, bend: AnyArray, /) -> _Two:
        """Dbeta = [Dbeta above, if skipped] + scale product o slope, and Dalpha = Dbeta o bend."""
        below = scale * product * slope
        if self.skip:
            below = d_beta + below
        return below, below * bend

    def push(
        self,
        through: AnyArray,
        scale: float,
        own: AnyArray,
        weight: float,
        g_beta: AnyArray,
        bend: AnyArray,
        slope: AnyArray,
        /,
    ) -> _Three:
        """Galpha = scale through + weight own, Gbeta = [that below, if skipped] + Galpha o bend, and slope o Gbeta."""
        g_alpha = scale * through + weight * own
        above = g_beta + g_alpha * bend if self.skip else g_alpha
        return g_alpha, above, slope * above


@functools.cache
def _compiled() -> Any:
    """Functions ``activate``, ``layer``, ``pull`` and ``push`` of float64 arrays."""
    source = Path(__file__).with_name("fused_loops.py")
    with cache.exclusive(source):
        from numba import boolean, float64, int64, njit, types, void

        from wgflow.kernels.cpu.flags import FLAGS
        from wgflow.systems.neural_feature_flow import fused_loops

        given = types.Array(float64, 2, "C", readonly=True)  # read-only, which writable arrays satisfy too
        out, kind = float64[:, ::1], (int64, float64)
        signatures: dict[Any, Any] = {
            fused_loops.activate: void(*kind, given, out, out),
            fused_loops.layer: void(*kind, *kind, boolean, given, float64, given, out, out, out, out, out),
            fused_loops.pull: void(boolean, given, float64, given, given, given, out, out),
            fused_loops.push: void(boolean, given, float64, given, float64, given, given, given, out, out, out),
        }
        loops = {loop.__name__: njit(types, cache=True, **FLAGS)(loop) for loop, types in signatures.items()}
        return SimpleNamespace(**loops)


class _Fused(Plain):
    """Compiled parts for real features and built-in activations; the same bits for any number of threads."""

    def __init__(self, h1: Activation, h2: Activation, skip: bool) -> None:
        super().__init__(h1, h2, skip)
        self._loops, self._threads = _compiled(), available_threads()
        self._kind1, self._kind2 = (
            (ACTIVATION_CODES[h.name], 0.5 if h.parameter is None else h.parameter) for h in (h1, h2)
        )
        keep_freed_memory()

    def activate(self, beta: AnyArray, /) -> _Two:
        h, slope = self._apart(2, self._loops.activate, *self._kind1, beta)
        return h, slope

    def bend(self, alpha: AnyArray, /) -> AnyArray:
        return self._apart(2, self._loops.activate, *self._kind2, alpha)[1]

    def layer(self, *arguments: Any) -> _Five:
        kinds = (*self._kind1, *self._kind2)
        alpha, beta, h, slope, bend = self._apart(5, self._loops.layer, *kinds, self.skip, *arguments)
        return alpha, beta if self.skip else alpha, h, slope, bend

    def pull(self, *arguments: Any) -> _Two:
        d_beta, d_alpha = self._apart(2, self._loops.pull, self.skip, *arguments)
        return d_beta, d_alpha

    def push(self, *arguments: Any) -> _Three:
        g_alpha, g_beta, moved = self._apart(3, self._loops.push, self.skip, *arguments)
        return g_alpha, g_beta, moved

    def _apart(self, count: int, loop: Any, *arguments: Any) -> list[AnyArray]:
        """Outputs of a loop over rows, which are shared out to the threads."""
        inputs = [np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value for value in arguments]
        rows, columns = next(value.shape for value in inputs if isinstance(value, np.ndarray))
        out = [np.empty((rows, columns)) for _ in range(count)]
        parts = max(1, min(self._threads, rows * columns // _PIECE))
        step = -(-rows // parts)

        def work(part: int) -> None:
            own = slice(part * step, (part + 1) * step)
            loop(*(value[own] if isinstance(value, np.ndarray) else value for value in (*inputs, *out)))

        run_chunks(work, parts, self._threads)
        return out
