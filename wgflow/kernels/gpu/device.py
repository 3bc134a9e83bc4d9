"""A CUDA device as the kernels see it: memory, launches and copies, through CuPy's RawModule.

Everything else of the GPU backend asks a :class:`Device` alone, so that the tests can put the same CUDA source,
compiled for the host, in its place.
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
    """Copies to the host that are under way."""

    def wait(self) -> list[NDArray[Any]]:
        """Arrays, once they have arrived."""


class Device(Protocol):
    """What the GPU kernels need of a device. Arrays of the device have ``shape``, ``dtype`` and ``nbytes``.

    Attributes
    ----------
    name : str
        As the vendor calls it.
    processors : int
        Multiprocessors.
    shared : int
        Bytes of shared memory that one block may ask for.
    memory : int
        Bytes of memory in all, so that what is planned by it does not depend on who else uses the device.
    """

    name: str
    processors: int
    shared: int
    memory: int

    def put(self, array: ArrayLike) -> Any:
        """Copy of a host array, C-contiguous, on the device."""

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
        """Array that nothing has been written to."""

    def get(self, array: Any) -> NDArray[Any]:
        """Copy on the host; waits for the work that makes it."""

    def fetch(self, arrays: Sequence[Any]) -> Pending:
        """Begin to copy arrays to the host while the device goes on; they may be overwritten by later launches."""

    def multiply(
        self, a: Any, b: Any, out: Any, transpose_a: bool = False, transpose_b: bool = False, add: bool = False
    ) -> None:
        """Product of two matrices by the library, transposed or not, written to ``out`` or added to it."""

    def launch(
        self, precision: str, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[Argument]
    ) -> None:
        """Start a kernel of :mod:`wgflow.kernels.gpu.cuda`, compiled for a precision, after those started before.

        Parameters
        ----------
        precision : {"float32", "float64"}
            What REAL is in the source.
        kernel : str
            Its name.
        blocks, threads, shared : int
            Blocks, threads of a block, bytes of shared memory of a block.
        arguments : sequence
            Arrays, ints (``long long``) and floats (``double``), in the kernel's order.
        """


class _Copies:
    """Copies of arrays on another stream, into pinned memory."""

    def __init__(self, cupy: Any, stream: Any, arrays: Sequence[Any]) -> None:
        # A snapshot on the device first: later launches may overwrite the arrays before they have crossed.
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
        # Memory that CuPy hands out again must not be written to any more; a copy nobody waited for may be under way.
        with contextlib.suppress(Exception):
            self._stream.synchronize()

    def wait(self) -> list[NDArray[Any]]:
        """Arrays of one's own, out of the pinned memory."""
        self._stream.synchronize()
        self._held.clear()
        return [each.copy() for each in self._arrived]


def _advised(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method of a device turn CUDA's errors into ones that say what to do."""

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
        If CuPy or a device cannot be had, or it fails later, with what to do about it.
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
        """Copy of a host array, C-contiguous, on the device; begun, through pinned memory that CuPy looks after."""
        return self._cupy.array(np.ascontiguousarray(array))

    @_advised
    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Any:
        """Array that nothing has been written to."""
        return self._cupy.empty(shape, dtype)

    @_advised
    def get(self, array: Any) -> NDArray[Any]:
        """Copy on the host; waits for the work that makes it."""
        host: NDArray[Any] = array.get()
        return host

    @_advised
    def fetch(self, arrays: Sequence[Any]) -> Pending:
        """Begin to copy arrays to the host while the device goes on."""
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
        """Error that says what became of the device and what to do."""
        said = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        if "OutOfMemory" in said or "MemoryAllocation" in said or "ALLOC_FAILED" in said:
            return BackendError(
                f"backend 'gpu': {self.name} has no memory left ({said}); free it of other programs, run fewer members "
                "at a time (--jobs 1), or use --backend cpu"
            )
        return BackendError(
            f"backend 'gpu': {self.name} failed ({said}); python -m wgflow.doctor --backend gpu tries it out, or use "
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


_STATIC = 48 * 1024  # shared memory a block may ask for without being allowed more


@cache
def _module(cupy: Any, precision: str) -> Any:
    """All kernels, compiled at first use for the device at hand; CuPy keeps the result on disk."""
    return cupy.RawModule(code=source(), options=options(precision))


def _typed(argument: Argument) -> Argument:
    if isinstance(argument, int):
        return np.int64(argument)
    return np.float64(argument) if isinstance(argument, float) else argument


@cache
def current() -> Device:
    """The device that ``backend="gpu"`` uses: the current one at first use, for the life of the process.

    CUDA_VISIBLE_DEVICES says which of several that is.

    Raises
    ------
    BackendError
        If there is none.
    """
    return CupyDevice()
