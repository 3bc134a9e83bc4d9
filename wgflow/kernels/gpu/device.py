"""Interface to a CUDA device: memory, launches and copies, through CuPy's RawModule.

The rest of the GPU backend uses a :class:`Device` only, so that the tests can substitute the same CUDA source compiled
for the host.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from wgflow.base.errors import BackendError
from wgflow.kernels.gpu import diagnose
from wgflow.kernels.gpu.cuda import options, source

Argument = Any  # an array of the device, an int (long long in a kernel) or a float (double)


class Pending(Protocol):
    """Copies to the host in progress."""

    def wait(self) -> list[NDArray[Any]]:
        """Wait for the copies and return them."""


class Device(Protocol):
    """Operations on a device. Arrays of the device have ``shape``, ``dtype`` and ``nbytes``.

    Attributes
    ----------
    name : str
        The vendor's name.
    processors : int
        Number of multiprocessors.
    shared : int
        Bytes of shared memory available to one block.
    memory : int
        Total bytes of memory; plans based on it do not depend on other users of the device.
    """

    name: str
    processors: int
    shared: int
    memory: int

    def put(self, array: ArrayLike) -> Any:
        """Copy of a host array, C-contiguous, on the device."""

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
        """Uninitialised array."""

    def get(self, array: Any) -> NDArray[Any]:
        """Copy on the host, once the array has been computed."""

    def fetch(self, arrays: Sequence[Any]) -> Pending:
        """Begin to copy arrays to the host while the device continues; later launches may overwrite them."""

    def multiply(
        self, a: Any, b: Any, out: Any, transpose_a: bool = False, transpose_b: bool = False, add: bool = False
    ) -> None:
        """Product of two matrices by the library, transposed or not, written to ``out`` or added to it."""

    def launch(
        self, precision: str, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        """Start a kernel of :mod:`wgflow.kernels.gpu.cuda`, compiled for a precision, after earlier launches.

        Parameters
        ----------
        precision : {"float32", "float64"}
            Type of REAL in the source.
        kernel : str
            Name of the kernel.
        blocks, threads, shared : int
            Blocks, threads of a block, bytes of shared memory of a block.
        arguments : sequence
            Arrays, ints (``long long``) and floats (``double``), in the kernel's order.
        """


class _Copies:
    """Copies of arrays into pinned memory, on a separate stream."""

    def __init__(self, cupy: Any, stream: Any, arrays: Sequence[Any]) -> None:
        # A snapshot on the device first: later launches may overwrite the arrays before they are copied.
        self._held = [array.copy() for array in arrays]
        self._stream = stream
        self._stream.wait_event(cupy.cuda.get_current_stream().record())
        self._arrived = [self._start(cupy, array) for array in self._held]

    def _start(self, cupy: Any, array: Any) -> NDArray[Any]:
        pinned = cupy.cuda.alloc_pinned_memory(max(array.nbytes, 1))
        host: NDArray[Any] = np.frombuffer(pinned, array.dtype, array.size).reshape(array.shape)
        array.get(stream=self._stream, out=host, blocking=False)
        return host

    def __del__(self) -> None:
        # CuPy may reuse the memory, to which an unfinished copy must no longer write.
        with contextlib.suppress(Exception):
            self._stream.synchronize()

    def wait(self) -> list[NDArray[Any]]:
        """Wait for the copies and return them, outside pinned memory."""
        self._stream.synchronize()
        self._held.clear()
        return [each.copy() for each in self._arrived]


def _advised(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method of a device convert CUDA's errors to errors with a remedy."""

    @wraps(method)
    def call(self: CupyDevice, *arguments: Any, **options: Any) -> Any:
        try:
            return method(self, *arguments, **options)
        except BackendError:
            raise
        except Exception as error:  # CuPy's, NVRTC's, cuBLAS's and the driver's have no common class
            raise self.failed(error) from error

    return call


class CupyDevice:
    """The current CUDA device; see :class:`Device` for the contract.

    Raises
    ------
    BackendError
        If CuPy or a device is not available or fails later; the message names a remedy.
    """

    name = "the device"

    def __init__(self) -> None:
        self._cupy = diagnose.usable()
        self._begin()

    @_advised
    def _begin(self) -> None:
        self._cublas = importlib.import_module("cupy.cublas")
        number = self._cupy.cuda.Device().id
        properties = self._cupy.cuda.runtime.getDeviceProperties(number)
        self.name = properties["name"].decode()
        self.processors = int(properties["multiProcessorCount"])
        self.shared = int(properties["sharedMemPerBlockOptin"])
        self.memory = int(properties["totalGlobalMem"])
        self._side = self._cupy.cuda.Stream(non_blocking=True)  # of copies
        self._functions: dict[tuple[str, str], Any] = {}

    @_advised
    def put(self, array: ArrayLike) -> Any:
        """Copy of a host array, C-contiguous, on the device, through CuPy's pinned memory; may still be in progress."""
        return self._cupy.array(np.ascontiguousarray(array))

    @_advised
    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
        """Uninitialised array."""
        return self._cupy.empty(shape, dtype)

    @_advised
    def get(self, array: Any) -> NDArray[Any]:
        """Copy on the host, once the array has been computed."""
        host: NDArray[Any] = array.get()
        return host

    @_advised
    def fetch(self, arrays: Sequence[Any]) -> Pending:
        """Begin to copy arrays to the host while the device continues."""
        return _Copies(self._cupy, self._side, arrays)

    @_advised
    def multiply(
        self, a: Any, b: Any, out: Any, transpose_a: bool = False, transpose_b: bool = False, add: bool = False
    ) -> None:
        """Product by cuBLAS, in full precision; the diagnosis refuses CuPy's switch for TF32."""
        operation = {False: "N", True: "T"}
        self._cublas.gemm(operation[transpose_a], operation[transpose_b], a, b, out=out, beta=1.0 if add else 0.0)

    @_advised
    def launch(
        self, precision: str, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        """Start a kernel on the current stream."""
        typed = tuple(_typed(each) for each in arguments)
        self._function(precision, kernel)((blocks,), (threads,), typed, shared_mem=shared)

    def failed(self, error: Exception) -> BackendError:
        """Error that says what happened to the device and names a remedy."""
        said = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if "OutOfMemory" in said or "MemoryAllocation" in said or "ALLOC_FAILED" in said:
            return BackendError(
                f"backend 'gpu': {self.name} has no memory left ({said}); free it of other programs, run fewer members "
                "at a time (--jobs 1), or use --backend cpu"
            )
        return BackendError(
            f"backend 'gpu': {self.name} failed ({said}); wgflow doctor --backend gpu tries it out, or use "
            "--backend cpu"
        )

    def _function(self, precision: str, kernel: str) -> Any:
        found = self._functions.get((precision, kernel))
        if found is None:
            module = _module(self._cupy, precision)
            found = self._functions[precision, kernel] = module.get_function(kernel)
            if self.shared > _STATIC:
                found.max_dynamic_shared_size_bytes = self.shared
        return found


_STATIC = 48 * 1024  # shared memory that a block can use without raising the limit


@cache
def _module(cupy: Any, precision: str) -> Any:
    """All kernels, compiled at first use for the current device; CuPy caches the result on disk."""
    return cupy.RawModule(code=source(), options=options(precision))


def _typed(argument: Argument) -> Argument:
    if isinstance(argument, int):
        return np.int64(argument)
    return np.float64(argument) if isinstance(argument, float) else argument


@cache
def current() -> Device:
    """Device of ``backend="gpu"``: the current CUDA device at first use, for the life of the process.

    CUDA_VISIBLE_DEVICES selects among several.

    Raises
    ------
    BackendError
        If there is none.
    """
    return CupyDevice()
