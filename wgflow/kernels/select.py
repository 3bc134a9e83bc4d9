"""Selection of a backend, and the interface that all backends share.

A backend is selected once, by :func:`select`, and never changes silently.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from wgflow.base.errors import BackendError
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Index
from wgflow.base.validate import whole
from wgflow.kernels.codes import NOT_COMPILED
from wgflow.kernels.cpu.arguments import CompiledActivation
from wgflow.kernels.ranks import Ranks
from wgflow.model.depth import Network
from wgflow.model.problem import Problem

BACKENDS = ("reference", "cpu", "gpu")
CHOICES = (*BACKENDS, "auto")
DTYPES = ("float64", "float32")


class Kernel(Protocol):
    """Interface of a backend, for a network of E entries and N particles; the caller checks the shapes."""

    name: str
    threads: int

    def outputs(self, net: Network, theta: Array, start: Array) -> NDArray[Any]:
        """Outputs W1 X(1), (M, K), for states (M, D) at t = 0."""

    def energy(self, net: Network, theta: Array, batch: Index | None = None) -> float:
        """E over all samples, or over the rows ``batch``."""

    def gradient(self, net: Network, theta: Array, batch: Index | None = None) -> tuple[float, Array, Array]:
        """E, the first variation g_e at every entry, (E,), and its theta gradient, (E, P)."""


def select(
    backend: str, problem: Problem, threads: int | None = None, dtype: str = "float64", ranks: Ranks | None = None
) -> Kernel:
    """Kernel of a backend for a problem.

    Parameters
    ----------
    backend : {"cpu", "gpu", "reference", "auto"}
        ``cpu`` compiles the built-in blocks, activations and losses, and an activation of the user's where Numba can
        (:mod:`wgflow.kernels.cpu.own_activation`); other user-defined ones run in NumPy, in blocks of samples. If
        Numba's compiler is disabled, ``cpu`` falls back to ``reference``, with a log message. ``gpu`` runs the built-in
        ones on the current CUDA device. ``auto`` is ``gpu`` for a large problem on a machine with a working device,
        else ``cpu``; the choice and its reason are logged (:mod:`wgflow.kernels.auto`).
    problem : Problem
        The problem to evaluate.
    threads : int, optional
        Number of threads, >= 1; all cores of the process by default.
    dtype : {"float64", "float32"}, optional
        Precision; only compiled kernels support float32.
    ranks : Ranks, optional
        Processes that share evaluations by the compiled kernels of ``cpu``; for ``auto`` that is the backend then.

    Raises
    ------
    InputError
        If a name is unknown or threads < 1.
    BackendError
        If the backend is not available.
    """
    if threads is not None:
        threads = whole("threads", threads)
    check_name("dtype", dtype, DTYPES)
    check_name("backend", backend, CHOICES)
    if ranks is None or ranks.size == 1:
        return _select(backend, problem, threads, dtype, None)
    kernel = _select("cpu" if backend == "auto" else backend, problem, threads, dtype, ranks)
    if not hasattr(kernel, "ranks"):
        raise BackendError(
            f"comm: expected the compiled kernels of backend 'cpu', whose samples processes can share, got backend "
            f"{backend!r} for {problem!r}; leave comm out to run on one process"
        )
    return kernel


def _select(backend: str, problem: Problem, threads: int | None, dtype: str, ranks: Ranks | None) -> Kernel:
    """Kernel of a backend; with a communicator, one that shares its samples among MPI processes where it can."""
    if backend == "auto":
        from wgflow.kernels import auto

        backend = auto.announce(auto.choose_backend([(problem, dtype)]))
    if backend == "reference":
        _only_double(dtype, "backend 'reference'")
        from wgflow.kernels.reference import Reference

        return Reference(problem, threads)
    if backend == "cpu":
        from wgflow.kernels import cache
        from wgflow.kernels.cpu.backend import compilable, compilable_apart_from_activation
        from wgflow.kernels.numpy_blocked import NumpyBlocked

        if compilable(problem) and cache.compiles():
            return _compiled(problem, threads, dtype, None, ranks)
        if compilable(problem):
            _only_double(dtype, "without Numba's compiler (NUMBA_DISABLE_JIT=1) backend 'cpu'")
            return _select("reference", problem, threads, dtype, None)
        if compilable_apart_from_activation(problem) and cache.compiles():
            from wgflow.kernels.cpu.own_activation import compiled_activation

            own = compiled_activation(problem.activation, dtype)
            if own is not None:
                return _compiled(problem, threads, dtype, own, ranks)
        _only_double(dtype, NOT_COMPILED)
        return NumpyBlocked(problem, threads)
    from wgflow.kernels.gpu.backend import Gpu

    return Gpu(problem, dtype)


def _compiled(
    problem: Problem, threads: int | None, dtype: str, own: CompiledActivation | None, ranks: Ranks | None
) -> Kernel:
    from wgflow.kernels.cpu.backend import Cpu
    from wgflow.kernels.cpu.sharded import ShardedCpu

    return Cpu(problem, threads, dtype, own) if ranks is None else ShardedCpu(problem, ranks, threads, dtype, own)


def _only_double(dtype: str, what: str) -> None:
    if dtype != "float64":
        raise BackendError(f"dtype {dtype!r}: {what} computes in NumPy, in float64 alone; leave dtype out")
