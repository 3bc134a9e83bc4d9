"""Diagnosis of the GPU backend: one CuPy package, a recent enough driver, a device and a compiler, checked in turn.

Every fault is one sentence with its remedy, the same in the command's error, in the reason of ``auto`` and in
``wgflow doctor``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import BackendError
from wgflow.base.extras import install
from wgflow.kernels.gpu.machine import COMPILERS, HERE, WHEELS, Machine

OLDEST, NEWEST = 12, 13  # CUDA versions that wgflow has an extra for
SWITCHES = {  # environment variables of CuPy that would silently change results
    "CUPY_TF32": "products in float32 are rounded to ten bits",
    "CUPY_ENABLE_UMP": "arrays of the host are no copies, and the device may write to them",
}


class Fault(BackendError):
    """A reason why the GPU backend cannot be used.

    Attributes
    ----------
    plain : str
        The fault and its remedy, without the prefix and suffix of an error of ``backend="gpu"``.
    """

    def __init__(self, plain: str) -> None:
        super().__init__(f"backend 'gpu': {plain}; or use --backend cpu")
        self.plain = plain


class Card(NamedTuple):
    """A CUDA device.

    Attributes
    ----------
    name : str
        The vendor's name.
    memory, free : int
        Total and free bytes.
    capability : str
        Compute capability, such as ``"9.0"``.
    processors : int
        Number of multiprocessors.
    """

    name: str
    memory: int
    free: int
    capability: str
    processors: int


class State(NamedTuple):
    """State of the GPUs and their software.

    Attributes
    ----------
    wheels : dict of str to str
        Installed CuPy packages with versions; more than one is a fault.
    release : str
        Version of the driver, ``""`` if unknown.
    driver, runtime : str
        CUDA versions supported by the driver, and used to build CuPy; ``""`` if there is none.
    nvrtc : str
        Version of the compiler and its package; ``""`` if it was not found.
    headers : str
        Folder of the CUDA headers, which only CuPy's own kernels need; ``""`` if there is none.
    cards : tuple of Card
        Devices that answer.
    fault : str
        Why the GPU cannot be used, with a remedy; ``""`` if a test kernel compiled and ran.
    """

    wheels: dict[str, str]
    release: str
    driver: str
    runtime: str
    nvrtc: str
    headers: str
    cards: tuple[Card, ...]
    fault: str


def usable(machine: Machine = HERE) -> Any:
    """CuPy, once its device and compiler have run a test kernel.

    Parameters
    ----------
    machine : Machine, optional
        The machine to examine.

    Raises
    ------
    Fault
        The first fault found, with its remedy.
    """
    with errors_as_faults(machine.driver()):
        cupy = _answering(machine)
        try_kernel(cupy)
        return cupy


@contextlib.contextmanager
def errors_as_faults(driver: int) -> Iterator[None]:
    """Convert any error of a broken CuPy installation to a :class:`Fault`."""
    try:
        yield
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"CuPy fails ({type(error).__name__}: {_first_line(error)}); {_reinstall(driver)}") from error


def installed(machine: Machine = HERE) -> dict[str, str]:
    """Installed CuPy packages and their versions; nothing is imported."""
    found = {name: machine.version(name) for name in WHEELS}
    return {name: version for name, version in found.items() if version}


def examine(machine: Machine = HERE) -> State:
    """Examine all requirements of the GPU backend, and run a test kernel if they are met.

    Parameters
    ----------
    machine : Machine, optional
        The machine to examine.

    Returns
    -------
    State
        A fault raises no error; it is in ``fault``.
    """
    wheels, driver = installed(machine), machine.driver()
    packaged = {name: version for name in COMPILERS if (version := machine.version(name))}
    compiler, runtime, cards, fault = "", "", tuple[Card, ...](), ""
    try:
        with errors_as_faults(driver):
            # Without a driver CuPy is not imported: that would take half a second and emit a warning.
            cupy = _answering(machine)
            runtime = _version_text(cupy.cuda.runtime.runtimeGetVersion())
            compiler = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
            cards = tuple(_card(cupy, number) for number in range(cupy.cuda.runtime.getDeviceCount()))
            try_kernel(cupy)
    except Fault as error:
        fault = error.plain
    wheel = ", ".join(f"{name} {version}" for name, version in packaged.items())
    nvrtc = f"{compiler} ({wheel})" if compiler and wheel else compiler or wheel
    return State(wheels, machine.release(), _version_text(driver), runtime, nvrtc, machine.headers(), cards, fault)


# The threads of a block exchange numbers through shared memory: this needs a launch, a barrier and a copy.
_KERNEL = """
KERNEL doctor(Int* out_squares) {
    SHARED(Int, held);
    held[THREAD] = (Int)THREAD * THREAD;
    BARRIER();
    out_squares[THREAD] = held[THREADS - 1 - THREAD];
}
"""
THREADS = 64


def small_kernel() -> str:
    """Source of a kernel ``doctor`` that writes the squares of its :data:`THREADS` thread numbers in reverse order."""
    return (resources.files("wgflow.kernels.gpu.cuda") / "common.cu").read_text(encoding="utf-8") + _KERNEL


def try_kernel(cupy: Any) -> None:
    """Compile and run :func:`small_kernel`, and check its results.

    Raises
    ------
    Fault
        If it does not compile or run, or gives wrong results.
    """
    try:
        kernel = cupy.RawModule(code=small_kernel(), options=("-std=c++17", "-DREAL=double")).get_function("doctor")
        squares = cupy.empty(THREADS, np.int64)
        kernel((1,), (THREADS,), (squares,), shared_mem=8 * THREADS)
        found = squares.get()
    except Exception as error:  # NVRTC's, the driver's and the runtime's errors have no common class
        raise Fault(
            f"a small kernel does not compile or run ({type(error).__name__}: {_first_line(error)}); update the driver "
            "and CuPy, and report it if that does not help"
        ) from None
    if not np.array_equal(found, np.arange(THREADS)[::-1] ** 2):
        raise Fault("a small kernel gives wrong numbers; do not trust this device")


def _answering(machine: Machine) -> Any:
    """CuPy with a responding device and its libraries; no kernel has run yet."""
    for name, effect in SWITCHES.items():
        if machine.switch(name):
            raise Fault(f"the environment variable {name} is set, with which {effect}; unset it")
    cupy = _module(machine)
    _check_driver(cupy, machine.driver())
    _check_devices(cupy)
    _check_library(cupy, "NVRTC, which compiles the kernels,", cupy.cuda.nvrtc.getVersion)
    _check_library(cupy, "cuBLAS", cupy.cuda.device.get_cublas_handle)
    return cupy


def _module(machine: Machine) -> Any:
    """CuPy, if exactly one package and a driver are installed."""
    wheels, driver = installed(machine), machine.driver()
    if not wheels:
        and_no_driver = "" if driver else "; this machine shows no NVIDIA driver either"
        raise Fault(f"CuPy is not installed; {_extra(driver)}{and_no_driver}")
    if len(wheels) > 1:
        raise Fault(
            f"{len(wheels)} CuPy packages are installed, which overwrite each other's files ({_listed(wheels)}); "
            f"pip uninstall {' '.join(wheels)}, then {_extra(driver)}"
        )
    if not driver:
        raise Fault(
            f"CuPy is installed ({_listed(wheels)}), but there is no NVIDIA driver that answers; install it, or let "
            "the container see the GPU (docker run --gpus all); nvidia-smi shows when it works"
        )
    try:
        return machine.cupy()
    except Exception as error:  # a broken wheel raises errors other than ImportError too
        raise Fault(f"CuPy cannot be imported ({_first_line(error)}); {_reinstall(driver)}") from None


def _check_driver(cupy: Any, driver: int) -> None:
    """Check that the driver supports the CUDA version of the wheel; minor versions are compatible."""
    runtime = cupy.cuda.runtime.runtimeGetVersion()
    if driver // 1000 < runtime // 1000:
        other = f" or {_extra(driver)} instead" if driver // 1000 >= OLDEST else ""
        raise Fault(
            f"the driver supports CUDA {_version_text(driver)}, CuPy was built for CUDA {_version_text(runtime)}; "
            f"update the driver{other}"
        )


def _check_devices(cupy: Any) -> None:
    try:
        count, said = cupy.cuda.runtime.getDeviceCount(), ""
    except cupy.cuda.runtime.CUDARuntimeError as error:
        count, said = 0, f" ({_first_line(error)})"
    if not count:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f", and CUDA_VISIBLE_DEVICES, which is {visible!r}"
        raise Fault(f"the driver shows no CUDA device{said}; check nvidia-smi{hidden}")
    try:
        cupy.cuda.runtime.memGetInfo()  # the first call that needs the device itself
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise Fault(
            f"the device does not answer ({_first_line(error)}); check with nvidia-smi whether others hold it"
        ) from None


def _check_library(cupy: Any, name: str, use: Callable[[], object]) -> None:
    """Load a library by using it; CuPy looks for it at first use, and raises various errors if it is missing."""
    try:
        use()
    except Exception as error:
        major = cupy.cuda.runtime.runtimeGetVersion() // 1000
        raise Fault(f"{name} cannot be had ({_first_line(error)}); {install(f'gpu{major}')} brings it") from None


def _card(cupy: Any, number: int) -> Card:
    found = cupy.cuda.runtime.getDeviceProperties(number)
    with cupy.cuda.Device(number):
        free, total = cupy.cuda.runtime.memGetInfo()
    capability = f"{found['major']}.{found['minor']}"
    return Card(found["name"].decode(), total, free, capability, found["multiProcessorCount"])


def _extra(driver: int) -> str:
    """Command that installs CuPy for the CUDA version of a driver."""
    if driver // 1000 < OLDEST:
        return f"{install('gpu12')}, or gpu13, for the CUDA version that nvidia-smi shows"
    return install(f"gpu{min(driver // 1000, NEWEST)}")


def _reinstall(driver: int) -> str:
    return f"reinstall CuPy: {_extra(driver)}"


def _listed(wheels: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in wheels.items())


def _version_text(version: int) -> str:
    """CUDA version as text: 12090 is 12.9."""
    return f"{version // 1000}.{version % 1000 // 10}" if version else ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
