"""The same evaluation in PyTorch and JAX on a device: as users write it, and in the fastest variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Case, arrays
from gpu_timing import Program, on_host
from programs import Result, _by_layer, _flat

CHUNK = 8  # layers that are compiled together where a library is given several at once


def _torch(case: Case, device: str, compiled: bool = False, chunk: int = 1, graph: bool = False) -> Program:
    """One evaluation by PyTorch: a loop over chunks of layers, perhaps compiled, perhaps captured as a CUDA graph."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch._dynamo.reset()
    data = arrays(case)
    wide = case.scheme == "layers"

    def layers(x: Any, a: Any, w: Any, b: Any, c: Any) -> Any:
        for k in range(a.shape[0]):
            if wide:
                x = x + (c[k] * torch.tanh(x @ w[k].T + b[k])) @ a[k]
            else:
                x = x + (c[k] * torch.tanh(x @ w[k] + b[k]))[:, None] * a[k]
        return x

    chunk = max(each for each in range(1, chunk + 1) if (case.layers or case.particles) % each == 0)
    step = torch.compile(layers, dynamic=False) if compiled else layers

    def tensor(part: np.ndarray, trained: bool = False) -> Any:
        return torch.tensor(part, dtype=torch.float32, device=device, requires_grad=trained)

    start, target, readout = (tensor(part) for part in (data.start, data.target, data.readout))
    blocks = [tensor(part, True) for part in _by_layer(case, data)]

    def run() -> Any:
        for part in blocks:
            part.grad = None
        x = start
        for block in zip(*(part.split(chunk) for part in blocks), strict=True):
            x = step(x, *block)
        loss = 0.5 * ((x @ readout.T - target) ** 2).sum(1).mean()
        loss.backward()
        return loss.detach()

    def result(loss: Any) -> Result:
        return float(loss), *_flat(case, *(part.grad.cpu().numpy() for part in blocks))

    if device == "cpu":
        return on_host(run, result)
    call = _captured(torch, run) if graph else run
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def events() -> float:
        begun.record()
        call()
        ended.record()
        ended.synchronize()
        return 1e-3 * begun.elapsed_time(ended)

    return Program(call, torch.cuda.synchronize, result, events, torch.cuda.max_memory_allocated)


def _captured(torch: Any, run: Callable[[], Any]) -> Callable[[], Any]:
    """The launches of one evaluation as a CUDA graph, replayed at every call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what a library sets up at first use must not be captured
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = run()

    def replay() -> Any:
        graph.replay()
        return loss

    return replay


def torch_eager(case: Case, device: str) -> Program:
    """PyTorch: a Python loop over layers."""
    return _torch(case, device)


def torch_compiled(case: Case, device: str) -> Program:
    """PyTorch: torch.compile on 8 layers at a time; the loop over these stays in Python."""
    return _torch(case, device, compiled=True, chunk=CHUNK)


def torch_graph(case: Case, device: str) -> Program:
    """PyTorch: the loop over layers captured, forwards and backwards, as one CUDA graph."""
    return _torch(case, device, graph=True)


def torch_compiled_graph(case: Case, device: str) -> Program:
    """PyTorch: torch.compile on 8 layers at a time, all of them captured as one CUDA graph."""
    return _torch(case, device, compiled=True, chunk=CHUNK, graph=True)


def _jax(case: Case, device: str, rematerialise: bool = False, unroll: int = 1) -> Program:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
    data = arrays(case)

    def layer(x: Any, block: Any) -> tuple[Any, None]:
        a, w, b, c = block
        if case.scheme == "gaps":
            return x + c * jnp.tanh(x @ w + b)[:, None] * a, None
        return x + (c * jnp.tanh(x @ w.T + b)) @ a, None

    def loss(blocks: Any, start: Any, target: Any, readout: Any) -> Any:
        x, _ = jax.lax.scan(jax.checkpoint(layer) if rematerialise else layer, start, blocks, unroll=unroll)
        return 0.5 * jnp.mean(jnp.sum((x @ readout.T - target) ** 2, axis=1))

    where = jax.devices("cpu" if device == "cpu" else "gpu")[0]

    def put(part: np.ndarray) -> Any:
        return jax.device_put(part.astype(np.float32), where)

    fixed = tuple(map(put, (data.start, data.target, data.readout)))
    blocks = tuple(map(put, _by_layer(case, data)))
    both = jax.jit(jax.value_and_grad(loss))

    def memory() -> int:
        return int((where.memory_stats() or {}).get("peak_bytes_in_use", 0))

    def run() -> Any:
        return jax.block_until_ready(both(blocks, *fixed))  # the one way of waiting that JAX has

    return Program(run, lambda: None, lambda found: (float(found[0]), *_flat(case, *found[1])), None, memory)


def jax_scan(case: Case, device: str) -> Program:
    """JAX: jit(value_and_grad(scan over layers))."""
    return _jax(case, device)


def jax_unrolled(case: Case, device: str) -> Program:
    """JAX: the same with 8 layers unrolled in the scan's body."""
    return _jax(case, device, unroll=CHUNK)


def jax_remat(case: Case, device: str) -> Program:
    """JAX: jit of the scan with jax.checkpoint around each layer."""
    return _jax(case, device, rematerialise=True)
