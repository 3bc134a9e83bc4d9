"""Evaluation layer by layer, for wide layers and wide states: six cuBLAS products per layer and elementwise kernels.

    Z = W X,  H = sigma(Z + b),  X <- X + (c A)' H,
    Q = A P,  R = Q sigma',  dA = H P',  dW = R X',  P <- P + (c W)' R,

with X and P (D, samples), H and R (units, samples). X and H of every layer are stored; samples are processed in parts,
so that memory is bounded for any M. See ``layered.cu``.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from numpy.typing import NDArray

from wgflow.kernels.gpu.device_problem import GRADIENT, LANES, SHARE, DeviceProblem, Evaluation, Task

_RESIDENT = 8  # blocks of a multiprocessor, each of which sums rows in turn
_SUMMED = 2**15  # samples that a product sums in single precision; parts are added in double
_PIECE = 1024  # of a row, for a block of threads: PIECE in layered.cu


class _Layer(NamedTuple):
    """First entry, number of entries and number of units of a nonempty layer."""

    entry: int
    entries: int
    units: int


class _Kept(NamedTuple):
    """Stored quantities of a layer for its gradient: X, H, sigma', a and c w."""

    state: Any
    value: Any
    slope: Any
    a: Any
    cw: Any


class _Scratch(NamedTuple):
    """R, and sums over the samples of a part: d_b, d_a and d_w by unit. Layers of equal size share them."""

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
    """Layered evaluation of one problem, a few launches per layer.

    Parameters
    ----------
    problem : DeviceProblem
        The problem.
    readout : ndarray (K, D)
        W1.
    """

    def __init__(self, problem: DeviceProblem, readout: NDArray[Any]) -> None:
        self._problem, self._readout = problem, problem.put(readout)

    def launch(self, task: Task) -> Evaluation:
        """Start an evaluation, without waiting for it."""
        problem, samples, count = self._problem, task.samples, int(task.first[-1])
        bounds = task.first.tolist()
        sizes = [(low, high - low) for low, high in itertools.pairwise(bounds) if high > low]
        layers = [_Layer(entry, entries, entries * problem.units) for entry, entries in sizes]
        slope = problem.doubles(count, problem.parameters)
        output, loss, value = problem.empty(problem.outputs, samples), problem.doubles(samples), problem.doubles(count)
        results = _Results(output, loss, value, slope)
        part = self.part(samples, layers, task.mode)
        for low in range(0, samples, part):
            self._part(task, layers, low, min(part, samples - low), results)
        energy = problem.mean(task, results.loss)
        if task.mode != GRADIENT:
            return Evaluation(energy, None, None, results.output)
        return Evaluation(energy, results.value, results.slope, results.output)

    def part(self, samples: int, layers: list[_Layer], mode: int) -> int:
        """Number of samples processed at a time."""
        problem, widest = self._problem, max(each.units for each in layers)
        numbers = 2 * problem.width + problem.outputs + widest
        if mode == GRADIENT:
            numbers += sum(problem.width + each.units * (2 if problem.keep else 1) for each in layers)
        most = _SUMMED if mode == GRADIENT and problem.precision == "float32" else samples
        return min(samples, most, max(1, int(SHARE * problem.device.memory) // (numbers * problem.dtype.itemsize)))

    def _part(self, task: Task, layers: list[_Layer], low: int, samples: int, results: _Results) -> None:
        """Evaluate all layers for samples low..low+samples-1."""
        problem, gradient = self._problem, task.mode == GRADIENT
        state, unused = problem.empty(problem.width, samples), problem.empty(1)
        rows, size = problem.rows(task), task.start.shape[1]
        begin = (task.start, *rows, size, low, problem.width, samples, state)
        problem.each("layer_start", problem.width * samples, *begin)
        tape = []
        for layer in layers:
            w, a, cw, ca, bias = self._parameters(task, layer)
            kept, copied = int(problem.keep and gradient), problem.width if gradient else 0
            value, slope = problem.empty(layer.units, samples), problem.empty(layer.units, samples) if kept else unused
            after = problem.empty(problem.width, samples) if gradient else state
            problem.device.multiply(w, state, value)
            pieces = min((layer.units + copied) * -(-samples // _PIECE), 65536)
            given = (bias, problem.code, problem.eta, layer.units, samples, kept, state, copied)
            problem.run("layer_activate", pieces, *given, value, slope, after)
            problem.device.multiply(ca, value, after, transpose_a=True, add=True)
            if gradient:
                tape.append(_Kept(state, value, slope, a, cw))
            state = after
        seed = problem.empty(problem.outputs, samples)
        problem.device.multiply(self._readout, state, seed)
        wanted = (problem.loss, problem.outputs, problem.wanted, *rows, size, low, samples, task.samples, seed)
        problem.each("layer_losses", samples, task.mode, *wanted, results.output, results.loss)
        if not gradient:
            return
        adjoint = problem.empty(problem.width, samples)
        problem.device.multiply(self._readout, seed, adjoint, transpose_a=True)
        scratch: dict[int, _Scratch] = {}
        for k in range(len(layers) - 1, -1, -1):
            units = layers[k].units
            if units not in scratch:
                wide = problem.empty(units, problem.width), problem.empty(units, problem.width)
                scratch[units] = _Scratch(problem.empty(units, samples), problem.doubles(units), *wide)
            self._back(task, layers[k], tape.pop(), scratch[units], adjoint, low, results, last=k == 0)

    def _back(
        self,
        task: Task,
        layer: _Layer,
        kept: _Kept,
        scratch: _Scratch,
        adjoint: Any,
        low: int,
        results: _Results,
        last: bool,
    ) -> None:
        """Gradients of one layer, and the adjoint before it unless it is the first."""
        problem, (state, value, slope, a, cw), samples = self._problem, kept, adjoint.shape[1]
        pulled, by_b, by_a, by_w = scratch
        blocks = min(layer.units, _RESIDENT * problem.device.processors)
        problem.device.multiply(a, adjoint, pulled)
        shape = (int(problem.keep), layer.units, samples)
        problem.run(
            *("layer_pull_back", blocks, problem.code, value, slope, *shape, pulled, by_b),
            threads=LANES,
            shared=8 * LANES,
        )
        problem.device.multiply(value, adjoint, by_a, transpose_b=True)
        problem.device.multiply(pulled, state, by_w, transpose_b=True)
        span = (problem.units, problem.width, layer.entry, layer.entries, task.samples, int(low > 0))
        count = layer.entries * problem.parameters
        problem.each("layer_slopes", count, by_a, by_w, by_b, problem.parameters, problem.target, *span, results.slope)
        own = (task.theta, problem.parameters, task.particle, problem.source)
        problem.each_entry("layer_values", layer.entries, by_a, *own, *span, results.value)
        if not last:
            problem.device.multiply(cw, pulled, adjoint, transpose_a=True, add=True)

    def _parameters(self, task: Task, layer: _Layer) -> list[Any]:
        """w, a, c w, c a, (units, D), and b, (units,), of a layer."""
        problem, shape = self._problem, (layer.units, self._problem.width)
        arrays = [*(problem.empty(*shape) for _ in range(4)), problem.empty(layer.units)]
        own = (task.theta, problem.parameters, task.particle, task.weight, problem.source, problem.units, problem.width)
        problem.each("layer_parameters", layer.units * problem.width, *own, layer.entry, layer.units, *arrays)
        return arrays
