"""Programs that compute E and its gradient on a device, in float32 with TF32 off: wgflow, other libraries, peaks.

Each takes a :class:`~cases.Case` and where to run, and returns a :class:`~gpu_timing.Program`: everything it needs is
on the device before the first call, and everything it finds stays there until ``result`` is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from cases import Case, measure
from gpu_peers import (
    jax_remat,
    jax_scan,
    jax_unrolled,
    torch_compiled,
    torch_compiled_graph,
    torch_eager,
    torch_graph,
)
from gpu_timing import Program, on_host
from programs import Result

import wgflow

TILES = (64, 32, 16, 8)  # samples of a block of threads, as in wgflow.kernels.gpu.persistent
ALLOWED = {"float32": 5e-5, "float64": 1e-11}  # largest difference of a gradient, relative to the largest entry
SIDE = 8192  # of the products that give the peaks
COPIED = 2**29  # bytes of the copy


def _cupy_program(run: Callable[[], Any], result: Callable[[Any], Result | None]) -> Program:
    import cupy

    begun, ended = cupy.cuda.Event(), cupy.cuda.Event()

    def events() -> float:
        begun.record()
        run()
        ended.record()
        ended.synchronize()
        return 1e-3 * cupy.cuda.get_elapsed_time(begun, ended)

    wait = cupy.cuda.get_current_stream().synchronize
    return Program(run, wait, result, events, cupy.get_default_memory_pool().total_bytes)


def kernel(
    case: Case,
    device: str,
    dtype: str = "float32",
    tile: int | None = None,
    layered: bool | None = None,
    group: int | None = None,
) -> Program:
    """wgflow: the kernels alone, particles and results on the device, as inside a flow."""
    from wgflow.kernels.gpu import persistent
    from wgflow.kernels.gpu.backend import Gpu

    persistent._TILES = TILES if tile is None else (tile,)
    problem, rho, depth = measure(case)
    net = depth.network(rho)
    if device == "cpu":
        own = wgflow.Energy(problem, depth, "cpu", dtype).kernel
        return on_host(lambda: own.gradient(net, rho.theta), lambda found: _weighted(net, found[0], found[1], found[2]))
    gpu = Gpu(problem, dtype, layered=layered)
    gpu._persistent._size = group or gpu._persistent._size
    put, get = gpu.device.put, gpu.device.get
    sent = put(net.particle.astype(np.int64)), put(net.weight.astype(np.float64)), put(rho.theta)

    def result(found: Any) -> Result:
        return _weighted(net, float(get(found.energy)[0]), get(found.value), get(found.slope))

    return _cupy_program(lambda: gpu.launch(net.first, *sent), result)


def _weighted(net: Any, energy: float, value: Any, slope: Any) -> Result:
    """dE/dtheta and dE/dweight, in which entry e of the network counts weight_e times."""
    return energy, net.weight[:, None] * slope, value


def double(case: Case, device: str) -> Program:
    """wgflow: the same in float64."""
    return kernel(case, device, "float64")


def velocity(case: Case, device: str) -> Program:
    """wgflow: a call of Energy.velocity, with arrays on the host."""
    problem, rho, depth = measure(case)
    energy = wgflow.Energy(problem, depth, "cpu" if device == "cpu" else "gpu", "float32")
    order = depth.network(rho).particle

    def result(found: Any) -> Result:
        return found.energy, -(found.theta * rho.mass[:, None])[order], None

    def run() -> Any:
        return energy.velocity(rho)

    return on_host(run, result) if device == "cpu" else _cupy_program(run, result)._replace(events=None)


STEPS = 20  # of the flow, a call


def steps(case: Case, device: str) -> Program:
    """wgflow: Euler steps of Flow.run, 20 between two frames; the time is that of one step."""
    problem, rho, depth = measure(case)
    flow = wgflow.Flow(wgflow.Energy(problem, depth, "cpu" if device == "cpu" else "gpu", "float32"), step=2.0**-20)
    span = STEPS * 2.0**-20

    def run() -> Any:
        return list(flow.run(rho, until=span, every=span))

    made = on_host(run, lambda found: None)
    return made if device == "cpu" else _cupy_program(run, lambda found: None)._replace(events=None)


def _product(device: str, dtype: str, side: int) -> Program:
    numbers = np.random.default_rng(0).normal(size=(side, side)).astype(dtype)
    if device == "cpu":
        return on_host(lambda: numbers @ numbers, lambda found: None)
    import cupy

    a = cupy.asarray(numbers)
    b, out = a.T.copy(), cupy.empty_like(a)
    return _cupy_program(lambda: cupy.matmul(a, b, out=out), lambda found: None)


def sgemm(case: Case, device: str) -> Program:
    """The library's product of two 8192 x 8192 matrices in float32, TF32 off: the peak."""
    del case
    made = _product(device, "float32", 512 if device == "cpu" else SIDE)
    if device != "cpu":
        import cupy

        # A product in TF32 is off by 3e-4: the switch that turns it off has worked.
        x = np.random.default_rng(1).normal(size=(2, 1024, 1024)).astype(np.float32)
        found, wanted = cupy.asnumpy(cupy.matmul(*map(cupy.asarray, x))), x[0].astype(float) @ x[1]
        off = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        if not off < 1e-5:
            raise RuntimeError(f"sgemm is off by {off:.1e}: not a product in float32; unset CUPY_TF32")
    return made


def dgemm(case: Case, device: str) -> Program:
    """The same in float64."""
    del case
    return _product(device, "float64", 512 if device == "cpu" else SIDE)


def copy(case: Case, device: str) -> Program:
    """A copy of 512 MiB within the memory of the device."""
    del case
    if device == "cpu":
        numbers = np.ones(2**22, np.float32)
        return on_host(lambda: numbers.copy(), lambda found: None)
    import cupy

    source = cupy.asarray(np.random.default_rng(0).random(COPIED // 4, dtype=np.float32))
    target = cupy.empty_like(source)
    return _cupy_program(lambda: cupy.copyto(target, source), lambda found: None)


class Named(NamedTuple):
    """A program in the tables: its label, its process and its constructor."""

    label: str
    library: str
    build: Callable[[Case, str], Program]


PROGRAMS = {
    "wgflow32": Named("wgflow, float32", "wgflow", kernel),
    "wgflow64": Named("wgflow, float64", "wgflow", double),
    "velocity": Named("wgflow, Energy.velocity", "wgflow", velocity),
    "steps": Named("wgflow, a step of Flow", "wgflow", steps),
    "torch": Named("PyTorch, eager", "torch", torch_eager),
    "torch_compiled": Named("PyTorch, compiled", "torch", torch_compiled),
    "torch_graph": Named("PyTorch, CUDA graph", "torch", torch_graph),
    "torch_compiled_graph": Named("PyTorch, compiled, CUDA graph", "torch", torch_compiled_graph),
    "jax": Named("JAX, jit of scan", "jax", jax_scan),
    "jax_unrolled": Named("JAX, scan with 8 layers unrolled", "jax", jax_unrolled),
    "jax_remat": Named("JAX, scan with checkpoint", "jax", jax_remat),
    "sgemm": Named("sgemm", "wgflow", sgemm),
    "dgemm": Named("dgemm", "wgflow", dgemm),
    "copy": Named("copy", "wgflow", copy),
}


def _variant(**options: Any) -> Callable[[Case, str], Program]:
    return lambda case, device: kernel(case, device, **options)


PROGRAMS |= {f"tile{size}": Named(f"tiles of {size}", "tiles", _variant(tile=size, layered=False)) for size in TILES}
PROGRAMS["group16"] = Named("groups of 16", "tiles", _variant(group=16, layered=False))
PROGRAMS["layered"] = Named("layer by layer", "tiles", _variant(layered=True))
