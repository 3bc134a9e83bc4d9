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

from wgflow.kernels.uploaded import GRADIENT, LANES, SHARE, Launched, Task, Uploaded

_RESIDENT = 8  # blocks of a multiprocessor, each of which sums rows in turn
_PIECE = 1024  # of a row, for a block of threads: PIECE in layered.cu


class _Layer(NamedTuple):
    """First entry, entries and units of a layer that has any."""

    entry: int
    entries: int
    units: int


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
        return min(samples, max(1, int(SHARE * on.device.memory) // (numbers * on.dtype.itemsize)))

    def _part(self, task: Task, layers: list[_Layer], low: int, samples: int, made: _Results) -> None:
        """All layers for the samples low..low+samples-1."""
        on, gradient = self._on, task.mode == GRADIENT
        state = on.empty(on.width, samples)
        rows, size = on.rows(task), task.start.shape[1]
        on.each("layer_start", on.width * samples, task.start, *rows, size, low, on.width, samples, state)
        tape = []
        for layer in layers:
            w, _, _, ca, bias = self._parameters(task, layer)
            value, slope = on.empty(layer.units, samples), on.empty(layer.units if on.keep and gradient else 1, samples)
            on.device.multiply(w, state, value)
            kept = int(on.keep and gradient)
            pieces = min(layer.units * -(-samples // _PIECE), 65536)
            on.run("layer_activate", pieces, bias, on.code, on.eta, layer.units, samples, kept, value, slope)
            if gradient:
                tape.append((state, value, slope))
                state = on.empty(on.width, samples)
                on.each("layer_copy", on.width * samples, tape[-1][0], on.width * samples, state)
            on.device.multiply(ca, value, state, turn_a=True, add=True)
        seed = on.empty(on.outputs, samples)
        on.device.multiply(self._readout, state, seed)
        wanted = (on.wanted, *rows, size, low, samples, task.samples, seed)
        on.each("layer_losses", samples, task.mode, on.loss, on.outputs, *wanted, made.output, made.loss)
        if not gradient:
            return
        adjoint = on.empty(on.width, samples)
        on.device.multiply(self._readout, seed, adjoint, turn_a=True)
        for k in range(len(layers) - 1, -1, -1):
            self._back(task, layers[k], tape.pop(), adjoint, low, made, last=k == 0)

    def _back(
        self, task: Task, layer: _Layer, kept: tuple[Any, Any, Any], adjoint: Any, low: int, made: _Results, last: bool
    ) -> None:
        """Gradients of one layer, and the adjoint in front of it unless nothing asks for it."""
        on, (state, value, slope), samples = self._on, kept, adjoint.shape[1]
        _, a, cw, _, _ = self._parameters(task, layer)
        pulled, by_b = on.empty(layer.units, samples), on.doubles(layer.units)
        blocks = min(layer.units, _RESIDENT * on.device.processors)
        on.device.multiply(a, adjoint, pulled)
        shape = (int(on.keep), layer.units, samples)
        on.run(
            *("layer_pull_back", blocks, on.code, value, slope, *shape, pulled, by_b),
            threads=LANES,
            shared=8 * LANES,
        )
        by_a, by_w = on.empty(layer.units, on.width), on.empty(layer.units, on.width)
        on.device.multiply(value, adjoint, by_a, turn_b=True)
        on.device.multiply(pulled, state, by_w, turn_b=True)
        own = (task.theta, on.parameters, task.particle, on.source, on.target, on.units, on.width)
        span = (layer.entry, layer.entries, task.samples, int(low > 0))
        count = layer.entries * (on.parameters + 1)
        on.each("layer_slopes", count, by_a, by_w, by_b, *own, *span, made.value, made.slope)
        if not last:
            on.device.multiply(cw, pulled, adjoint, turn_a=True, add=True)

    def _parameters(self, task: Task, layer: _Layer) -> list[Any]:
        """w, a, c w, c a, (units, D), and b, (units,), of a layer."""
        on, shape = self._on, (layer.units, self._on.width)
        made = [on.empty(*shape), on.empty(*shape), on.empty(*shape), on.empty(*shape), on.empty(layer.units)]
        own = (task.theta, on.parameters, task.particle, task.weight, on.source, on.units, on.width)
        on.each("layer_parameters", layer.units * on.width, *own, layer.entry, layer.units, *made)
        return made
