"""Layer by layer, for wide layers and wide states: six products of the library's a layer, and what stands between them.

    Z = W X,  H = sigma(Z + b),  X <- X + (c A)' H,
    Q = A P,  R = Q sigma',  dA = H P',  dW = R X',  P <- P + (c W)' R,

with X and P (D, samples), H and R (units, samples). X and H of every layer are kept; samples run in parts, so that
memory is bounded whatever M is. See ``layered.cu``.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from numpy.typing import NDArray

from wgflow.kernels.gpu.device_problem import GRADIENT, LANES, SHARE, Launched, Task, Uploaded

_RESIDENT = 8  # blocks of a multiprocessor, each of which sums rows in turn
_SUMMED = 2**15  # samples that a product sums in single precision; parts are added in double
_PIECE = 1024  # of a row, for a block of threads: PIECE in layered.cu


class _Layer(NamedTuple):
    """First entry, entries and units of a layer that has any."""

    entry: int
    entries: int
    units: int


class _Kept(NamedTuple):
    """What a layer's gradient needs: X, H and sigma' there, a and c w."""

    state: Any
    value: Any
    slope: Any
    a: Any
    cw: Any


class _Scratch(NamedTuple):
    """R, and sums over the samples of a part: d_b, d_a and d_w by unit. Layers of one size use the same, in turn."""

    pulled: Any
    by_b: Any
    by_a: Any
    by_w: Any


class _Results(NamedTuple):
    output: Any
    loss: Any
    value: Any
    slope: Any


class Layered:
    """A few launches a layer; every evaluation of one problem.

    Parameters
    ----------
    on : Uploaded
        The problem.
    readout : ndarray (K, D)
        W1.
    """

    def __init__(self, on: Uploaded, readout: NDArray[Any]) -> None:
        self._on, self._readout = on, on.put(readout)

    def launch(self, task: Task) -> Launched:
        """Start an evaluation; waits for nothing."""
        on, samples, entries = self._on, task.samples, int(task.first[-1])
        bounds = task.first.tolist()
        layers = [
            _Layer(low, high - low, (high - low) * on.units) for low, high in itertools.pairwise(bounds) if high > low
        ]
        made = _Results(
            on.empty(on.outputs, samples), on.doubles(samples), on.doubles(entries), on.doubles(entries, on.parameters)
        )
        part = self.part(samples, layers, task.mode)
        for low in range(0, samples, part):
            self._part(task, layers, low, min(part, samples - low), made)
        energy = on.mean(task, made.loss)
        if task.mode != GRADIENT:
            return Launched(energy, None, None, made.output)
        return Launched(energy, made.value, made.slope, made.output)

    def part(self, samples: int, layers: list[_Layer], mode: int) -> int:
        """Samples that are in memory at a time."""
        on, widest = self._on, max(each.units for each in layers)
        numbers = 2 * on.width + on.outputs + widest
        if mode == GRADIENT:
            numbers += sum(on.width + each.units * (2 if on.keep else 1) for each in layers)
        most = _SUMMED if mode == GRADIENT and on.precision == "float32" else samples
        return min(samples, most, max(1, int(SHARE * on.device.memory) // (numbers * on.dtype.itemsize)))

    def _part(self, task: Task, layers: list[_Layer], low: int, samples: int, made: _Results) -> None:
        """All layers for the samples low..low+samples-1."""
        on, gradient = self._on, task.mode == GRADIENT
        state, unused = on.empty(on.width, samples), on.empty(1)
        rows, size = on.rows(task), task.start.shape[1]
        on.each("layer_start", on.width * samples, task.start, *rows, size, low, on.width, samples, state)
        tape = []
        for layer in layers:
            w, a, cw, ca, bias = self._parameters(task, layer)
            kept, copied = int(on.keep and gradient), on.width if gradient else 0
            value, slope = on.empty(layer.units, samples), on.empty(layer.units, samples) if kept else unused
            after = on.empty(on.width, samples) if gradient else state
            on.device.multiply(w, state, value)
            pieces = min((layer.units + copied) * -(-samples // _PIECE), 65536)
            given = (bias, on.code, on.eta, layer.units, samples, kept, state, copied)
            on.run("layer_activate", pieces, *given, value, slope, after)
            on.device.multiply(ca, value, after, turn_a=True, add=True)
            if gradient:
                tape.append(_Kept(state, value, slope, a, cw))
            state = after
        seed = on.empty(on.outputs, samples)
        on.device.multiply(self._readout, state, seed)
        wanted = (on.wanted, *rows, size, low, samples, task.samples, seed)
        on.each("layer_losses", samples, task.mode, on.loss, on.outputs, *wanted, made.output, made.loss)
        if not gradient:
            return
        adjoint = on.empty(on.width, samples)
        on.device.multiply(self._readout, seed, adjoint, turn_a=True)
        scratch: dict[int, _Scratch] = {}
        for k in range(len(layers) - 1, -1, -1):
            units = layers[k].units
            if units not in scratch:
                wide = on.empty(units, on.width), on.empty(units, on.width)
                scratch[units] = _Scratch(on.empty(units, samples), on.doubles(units), *wide)
            self._back(task, layers[k], tape.pop(), scratch[units], adjoint, low, made, last=k == 0)

    def _back(
        self,
        task: Task,
        layer: _Layer,
        kept: _Kept,
        scratch: _Scratch,
        adjoint: Any,
        low: int,
        made: _Results,
        last: bool,
    ) -> None:
        """Gradients of one layer, and the adjoint in front of it unless nothing asks for it."""
        on, (state, value, slope, a, cw), samples = self._on, kept, adjoint.shape[1]
        pulled, by_b, by_a, by_w = scratch
        blocks = min(layer.units, _RESIDENT * on.device.processors)
        on.device.multiply(a, adjoint, pulled)
        shape = (int(on.keep), layer.units, samples)
        on.run(
            *("layer_pull_back", blocks, on.code, value, slope, *shape, pulled, by_b),
            threads=LANES,
            shared=8 * LANES,
        )
        on.device.multiply(value, adjoint, by_a, turn_b=True)
        on.device.multiply(pulled, state, by_w, turn_b=True)
        span = (on.units, on.width, layer.entry, layer.entries, task.samples, int(low > 0))
        count = layer.entries * on.parameters
        on.each("layer_slopes", count, by_a, by_w, by_b, on.parameters, on.target, *span, made.slope)
        own = (task.theta, on.parameters, task.particle, on.source)
        on.each_entry("layer_values", layer.entries, by_a, *own, *span, made.value)
        if not last:
            on.device.multiply(cw, pulled, adjoint, turn_a=True, add=True)

    def _parameters(self, task: Task, layer: _Layer) -> list[Any]:
        """w, a, c w, c a, (units, D), and b, (units,), of a layer."""
        on, shape = self._on, (layer.units, self._on.width)
        made = [on.empty(*shape), on.empty(*shape), on.empty(*shape), on.empty(*shape), on.empty(layer.units)]
        own = (task.theta, on.parameters, task.particle, task.weight, on.source, on.units, on.width)
        on.each("layer_parameters", layer.units * on.width, *own, layer.entry, layer.units, *made)
        return made
