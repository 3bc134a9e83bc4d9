"""Programs that compute the same result: E and its gradient in every parameter and layer weight, or a step.

Each takes a :class:`~cases.Case` and returns a :class:`Program`. Libraries are imported inside, so that a process loads
only what it runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Arrays, Case, arrays, measure
from twins import twin

import wgflow
from wgflow.kernels.codes import ACTIVATION_CODES
from wgflow.model import activations

Result = tuple[float, np.ndarray, np.ndarray | None]
THREADS = (
    int(os.environ.get("BENCHMARK_THREADS", "0")) or None
)  # of wgflow; set by turns.py, with those of other libraries
CLOCK = time.process_time if THREADS == 1 else time.perf_counter  # CPU seconds are disturbed less by other processes
STEP = 1e-3  # flow time of one step; short, so that the particles stay where the first evaluation was checked
TOGETHER = 50  # steps between two frames at most


class Program(NamedTuple):
    """A timed computation and its result.

    Attributes
    ----------
    run : callable
        The computation that is timed, without reuse of earlier results.
    result : callable
        From what ``run`` returned, E, dE/dtheta (or the velocity), (N, P), and dE/dweight, (N,), or None where the
        program has no such thing, particles in the order of the network.
    times : callable, optional
        Seconds of each of a number of calls, if the program measures them itself.
    """

    run: Callable[[], Any]
    result: Callable[[Any], Result]
    times: Callable[[int], list[float]] | None = None

    def clock(self, calls: int) -> list[float]:
        """Seconds of each of a number of calls."""
        if self.times is not None:
            return self.times(calls)
        spent = []
        for _ in range(calls):
            began = CLOCK()
            self.run()
            spent.append(CLOCK() - began)
        return spent


def own(
    case: Case, backend: str = "cpu", dtype: str = "float64", activation: str | activations.Activation = "tanh"
) -> Program:
    """One call of Energy.velocity: sorting, velocities in theta and tau and the dissipation are part of it."""
    problem, rho, depth = measure(case, activation)
    energy = wgflow.Energy(problem, depth, backend, dtype, THREADS)
    batch = np.arange(case.batch) if case.batch else None
    order = depth.network(rho).particle

    def result(velocity: wgflow.base.types.Velocity) -> Result:
        by_theta = -velocity.theta * rho.mass[:, None]
        if case.scheme != "gaps":
            return velocity.energy, by_theta[order], None
        by_tau = -velocity.tau[order] / rho.mass[order]  # dE/dtau^l = dE/dgap^l - dE/dgap^(l+1)
        return velocity.energy, by_theta[order], np.cumsum(by_tau[::-1])[::-1]

    return Program(lambda: energy.velocity(rho, batch), result)


def reference(case: Case) -> Program:
    """Reference: wgflow's definition in plain NumPy, which keeps all states."""
    return own(case, "reference")


def single(case: Case) -> Program:
    """Wgflow's compiled kernels in float32."""
    return own(case, dtype="float32")


def _tanh(z: np.ndarray) -> np.ndarray:
    return np.tanh(z)


def _tanh_slope(z: np.ndarray) -> np.ndarray:
    return 1 - np.tanh(z) ** 2


def own_activation(case: Case) -> Program:
    """Wgflow with tanh passed as an activation of the user's own: value and derivative as Python functions."""
    return own(case, activation=activations.Activation("my_tanh", _tanh, _tanh_slope))


def flow_step(case: Case) -> Program:
    """Wgflow: one step of Flow.run, Euler: the mean of those between two frames."""
    problem, rho, depth = measure(case)
    flow = wgflow.Flow(wgflow.Energy(problem, depth, threads=THREADS), step=STEP)
    order = depth.network(rho).particle

    def times(calls: int) -> list[float]:
        counts = [len(part) for part in np.array_split(np.arange(calls), -(-calls // TOGETHER))]
        return [each for count in counts for each in [seconds_of_steps(flow, rho, count) / count] * count]

    def result(frames: list[wgflow.base.types.Frame]) -> Result:
        before, after = frames
        return before.energy, ((after.theta - before.theta) / STEP)[order], None

    return Program(lambda: list(flow.run(rho, STEP)), result, times)


def seconds_of_steps(flow: wgflow.Flow, rho: wgflow.Particles, count: int) -> float:
    """Seconds of a number of evaluations with the moves around them, without the frames at both ends.

    A flow may take several steps in one compiled call, and tells ``on_step`` of all of them when it is over: only the
    first frame and the last step enclose all the work. After the last step nothing is evaluated but for its frame.
    """
    until, ends = (count + 1) * flow.rule.length, list[float]()
    frames = iter(flow.run(rho, until, every=until, on_step=lambda step, s: ends.append(CLOCK())))
    next(frames)
    began = CLOCK()
    next(frames)
    return ends[-1] - began


def numpy_step(case: Case) -> Program:
    """NumPy: the same step written by hand, a loop over layers on preallocated arrays (`benchmarks/twins.py`)."""
    flow = twin(case, arrays(case))
    before = flow.theta()
    return Program(lambda: flow.step(STEP), lambda energy: (energy, (flow.theta() - before) / STEP, None))


def _by_layer(case: Case, data: Arrays) -> tuple[Any, ...]:
    """Parameters with a leading axis of layers: (L, n, D), (L, n, D), (L, n), (L, n); n = 1 under Gaps is dropped."""
    if case.scheme == "gaps":
        return data.a, data.w, data.b, data.weight
    layers = case.layers
    return (
        data.a.reshape(layers, -1, case.width),
        data.w.reshape(layers, -1, case.width),
        data.b.reshape(layers, -1),
        data.weight.reshape(layers, -1),
    )


def _flat(case: Case, by_a: Any, by_w: Any, by_b: Any, by_weight: Any) -> tuple[np.ndarray, np.ndarray]:
    shape = (case.particles, case.width)
    parts = [np.asarray(by_a).reshape(shape), np.asarray(by_w).reshape(shape), np.asarray(by_b).reshape(-1, 1)]
    return np.concatenate(parts, axis=1), np.asarray(by_weight).ravel()


def _jitted(case: Case, data: Arrays, loss: Callable[..., Any]) -> Program:
    """Jit of value and gradient of loss(blocks, start, target, readout), by JAX."""
    import jax
    import jax.numpy as jnp

    fixed = tuple(map(jnp.asarray, (data.start, data.target, data.readout)))
    blocks = tuple(map(jnp.asarray, _by_layer(case, data)))
    both = jax.jit(jax.value_and_grad(loss))
    return Program(
        lambda: jax.block_until_ready(both(blocks, *fixed)),
        lambda found: (float(found[0]), *_flat(case, *found[1])),
    )


def _jax(case: Case, rematerialise: bool) -> Program:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    data = arrays(case)

    def layer(x: Any, block: Any) -> tuple[Any, None]:
        a, w, b, c = block
        if case.scheme == "gaps":
            return x + c * jnp.tanh(x @ w + b)[:, None] * a, None
        return x + (c * jnp.tanh(x @ w.T + b)) @ a, None

    def loss(blocks: Any, start: Any, target: Any, readout: Any) -> Any:
        x, _ = jax.lax.scan(jax.checkpoint(layer) if rematerialise else layer, start, blocks)
        return 0.5 * jnp.mean(jnp.sum((x @ readout.T - target) ** 2, axis=1))

    return _jitted(case, data, loss)


def jax_scan(case: Case) -> Program:
    """JAX: jit(value_and_grad(scan over layers))."""
    return _jax(case, rematerialise=False)


def jax_remat(case: Case) -> Program:
    """JAX: the same with jax.checkpoint around each layer."""
    return _jax(case, rematerialise=True)


def _torch(case: Case, compiled: bool) -> Program:
    import torch

    data = arrays(case)

    def ridge(x: Any, a: Any, w: Any, b: Any, c: Any) -> Any:
        return x + (c * torch.tanh(x @ w + b))[:, None] * a

    def wide(x: Any, a: Any, w: Any, b: Any, c: Any) -> Any:
        return x + (c * torch.tanh(x @ w.T + b)) @ a

    layer = ridge if case.scheme == "gaps" else wide
    layer = torch.compile(layer, dynamic=False) if compiled else layer
    start, target, readout = (torch.tensor(part) for part in (data.start, data.target, data.readout))
    blocks = [torch.tensor(part, requires_grad=True) for part in _by_layer(case, data)]

    def run() -> Any:
        for part in blocks:
            part.grad = None
        x = start
        for block in zip(*(part.unbind(0) for part in blocks), strict=True):
            x = layer(x, *block)
        loss = 0.5 * ((x @ readout.T - target) ** 2).sum(1).mean()
        loss.backward()
        return loss.detach()

    return Program(run, lambda loss: (float(loss), *_flat(case, *(part.grad.numpy() for part in blocks))))


def torch_eager(case: Case) -> Program:
    """PyTorch: a Python loop over layers."""
    return _torch(case, compiled=False)


def torch_compiled(case: Case) -> Program:
    """PyTorch: torch.compile on the layer; the loop stays in Python, since unrolling it compiles for minutes."""
    return _torch(case, compiled=True)


def diffrax_euler(case: Case) -> Program:
    """diffrax: Euler, one step per particle, RecursiveCheckpointAdjoint."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    data = arrays(case)

    def field(t: Any, x: Any, blocks: Any) -> Any:
        a, w, b, c = jax.tree.map(lambda part: part[jnp.round(t).astype(int)], blocks)
        return c * jnp.tanh(x @ w + b)[:, None] * a

    def loss(blocks: Any, start: Any, target: Any, readout: Any) -> Any:
        solution = diffrax.diffeqsolve(
            *(diffrax.ODETerm(field), diffrax.Euler(), 0.0, float(case.particles), 1.0, start, blocks),
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
            max_steps=case.particles + 1,
        )
        return 0.5 * jnp.mean(jnp.sum((solution.ys[-1] @ readout.T - target) ** 2, axis=1))

    return _jitted(case, data, loss)


def torchdiffeq_euler(case: Case) -> Program:
    """torchdiffeq: odeint with method "euler", one step per particle, differentiated through."""
    import torch
    from torchdiffeq import odeint

    data = arrays(case)
    start, target, readout = (torch.tensor(part) for part in (data.start, data.target, data.readout))
    blocks = [torch.tensor(part, requires_grad=True) for part in _by_layer(case, data)]
    span = torch.tensor([0.0, case.particles], dtype=torch.float64)

    def run() -> Any:
        for part in blocks:
            part.grad = None
        layers = list(zip(*(part.unbind(0) for part in blocks), strict=True))

        def field(t: Any, x: Any) -> Any:
            a, w, b, c = layers[round(float(t))]
            return (c * torch.tanh(x @ w + b))[:, None] * a

        x = odeint(field, start, span, method="euler", options={"step_size": 1.0})[-1]
        loss = 0.5 * ((x @ readout.T - target) ** 2).sum(1).mean()
        loss.backward()
        return loss.detach()

    return Program(run, lambda loss: (float(loss), *_flat(case, *(part.grad.numpy() for part in blocks))))


def _product(dtype: str) -> Program:
    a = np.random.default_rng(0).normal(size=(2048, 2048)).astype(dtype)

    return Program(lambda: a @ a, lambda product: (float(product[0, 0]), a[:1], None))


def dgemm(case: Case) -> Program:
    """NumPy's product of two 2048 x 2048 matrices in float64, as the peak."""
    del case
    return _product("float64")


def sgemm(case: Case) -> Program:
    """The same in float32."""
    del case
    return _product("float32")


def tanh(case: Case) -> Program:
    """Wgflow's tanh of :data:`VALUES` numbers in float64, in rows that stay in cache, on one thread."""
    from numba import njit

    from wgflow.kernels.cpu.functions import activate

    del case
    row = np.linspace(-3.0, 3.0, 2**12)
    tanh_code = ACTIVATION_CODES["tanh"]

    @njit
    def rows(row, times):
        for _ in range(times):
            activate(tanh_code, 0.0, row, row)

    return Program(lambda: rows(row, VALUES // row.size), lambda _: (float(row[0]), row, None))


PROGRAMS: dict[str, tuple[str, Callable[[Case], Program]]] = {
    "wgflow": ("wgflow", own),
    "wgflow32": ("wgflow, float32", single),
    "jax": ("JAX, jit of scan", jax_scan),
    "jax_remat": ("JAX, scan with checkpoint", jax_remat),
    "torch": ("PyTorch, eager", torch_eager),
    "torch_compiled": ("PyTorch, compiled layer", torch_compiled),
    "diffrax": ("diffrax, Euler", diffrax_euler),
    "torchdiffeq": ("torchdiffeq, Euler", torchdiffeq_euler),
    "reference": ("wgflow's reference, NumPy", reference),
    "dgemm": ("dgemm", dgemm),
    "sgemm": ("sgemm", sgemm),
    "tanh": ("tanh", tanh),
    "own_activation": ("wgflow, own activation", own_activation),
    "flow_step": ("wgflow, step", flow_step),
    "numpy_step": ("NumPy, step by hand", numpy_step),
}
PEAK = 2 * 2048**3  # flops of dgemm and sgemm
VALUES = 2**22  # numbers of tanh
