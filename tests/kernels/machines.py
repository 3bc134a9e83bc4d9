"""Machines that are not there: what the checks of the GPU would see on them."""

import contextlib
from types import SimpleNamespace

import numpy as np

from wgflow.kernels.gpu.machine import Machine


class CUDARuntimeError(RuntimeError):
    pass


class Array(np.ndarray):
    def get(self):
        return np.asarray(self)


def fake_cupy(
    count=1, runtime=12090, nvrtc=(12, 9), kernel=lambda out: out[::-1] ** 2, compiles=True, busy=False, blas=True
):
    """A CuPy with that many devices whose one kernel does what ``kernel`` says with 0, 1, ..., 63."""

    def memory():
        if busy:
            raise CUDARuntimeError("cudaErrorDevicesUnavailable")
        return 60 * 2**30, 80 * 2**30

    def devices():
        if isinstance(count, str):
            raise CUDARuntimeError(count)
        return count

    def version():
        if nvrtc is None:
            raise ImportError("libnvrtc.so.12: cannot open shared object file")
        return nvrtc

    def handle():
        if not blas:
            raise RuntimeError("libcublas.so.12: cannot open shared object file")
        return 1

    def compile_(code, options):
        assert "KERNEL doctor(" in code
        if not compiles:
            raise ValueError("common.cu(3): error: identifier is undefined\n1 error detected")

        def launch(blocks, threads, arguments, shared_mem):
            assert blocks == (1,)
            assert shared_mem == 8 * threads[0]
            arguments[0][:] = kernel(np.arange(threads[0]))

        return SimpleNamespace(get_function=lambda name: launch)

    properties = {"name": b"Testing GPU", "major": 9, "minor": 0, "multiProcessorCount": 132}
    api = SimpleNamespace(
        runtimeGetVersion=lambda: runtime,
        getDeviceCount=devices,
        getDeviceProperties=lambda number: properties,
        memGetInfo=memory,
        CUDARuntimeError=CUDARuntimeError,
    )

    def device(number=0):
        held = contextlib.nullcontext()
        held.id = number
        return held

    return SimpleNamespace(
        RawModule=compile_,
        empty=lambda shape, dtype: np.full(shape, -1, dtype).view(Array),
        cuda=SimpleNamespace(
            runtime=api,
            nvrtc=SimpleNamespace(getVersion=version),
            Device=device,
            device=SimpleNamespace(get_cublas_handle=handle),
        ),
    )


class FakeMachine(Machine):
    """Packages, a driver and a CuPy, or an error in its place."""

    def __init__(self, packages=("cupy-cuda12x", "nvidia-cuda-nvrtc-cu12"), driver=13000, cupy=None, switch=None):
        self.packages, self._driver, self._cupy, self.imported = packages, driver, cupy or fake_cupy(), 0
        self._switch = switch

    def version(self, package):
        return "14.2.0" if package in self.packages else None

    def driver(self):
        return self._driver

    def release(self):
        return "580.1" if self._driver else ""

    def switch(self, name):
        return name == self._switch

    def cupy(self):
        self.imported += 1
        if isinstance(self._cupy, Exception):
            raise self._cupy
        return self._cupy

    def headers(self):
        return ""


# What is wrong: (machine, words of the fault and of its remedy)
FAULTS = {
    "no CuPy": (FakeMachine(()), ["CuPy is not installed", "pip install '.[gpu13]'"]),
    "no CuPy, no driver": (FakeMachine((), 0), ["[gpu12]', or gpu13, for the CUDA version", "no NVIDIA driver either"]),
    "no CuPy, newer driver": (FakeMachine((), 14000), ["pip install '.[gpu13]'"]),
    "two": (FakeMachine(("cupy-cuda12x", "cupy-cuda13x")), ["2 CuPy packages", "uninstall cupy-cuda12x cupy-cuda13x"]),
    "no driver": (FakeMachine(driver=0), ["no NVIDIA driver that answers", "--gpus all"]),
    "broken": (FakeMachine(cupy=ImportError("libcudart.so.12: no\nmore")), ["libcudart.so.12: no)", "reinstall"]),
    "broken otherwise": (FakeMachine(cupy=AttributeError("numpy has no x")), ["cannot be imported (numpy has no x)"]),
    "old driver": (
        FakeMachine(("cupy-cuda13x",), 12020, fake_cupy(runtime=13000)),
        ["driver supports CUDA 12.2, CuPy was built for CUDA 13.0", "update the driver or pip install '.[gpu12]'"],
    ),
    "very old driver": (FakeMachine(driver=11080), ["CUDA 11.8", "update the driver"]),
    "no device": (FakeMachine(cupy=fake_cupy(0)), ["shows no CUDA device", "nvidia-smi"]),
    "device refuses": (FakeMachine(cupy=fake_cupy("cudaErrorNoDevice")), ["no CUDA device (cudaErrorNoDevice)"]),
    "busy device": (FakeMachine(cupy=fake_cupy(busy=True)), ["does not answer (cudaErrorDevicesUnavailable)"]),
    "no compiler": (
        FakeMachine(cupy=fake_cupy(nvrtc=None)),
        ["NVRTC", "libnvrtc.so.12", "pip install '.[gpu12]' brings"],
    ),
    "rounding switched on": (FakeMachine(switch="CUPY_TF32"), ["CUPY_TF32 is set", "rounded to ten bits", "unset it"]),
    "sharing switched on": (FakeMachine(switch="CUPY_ENABLE_UMP"), ["CUPY_ENABLE_UMP is set", "no copies"]),
    "no BLAS": (
        FakeMachine(cupy=fake_cupy(blas=False)),
        ["cuBLAS cannot be had (libcublas", "pip install '.[gpu12]' brings"],
    ),
}
BY_KERNEL = {
    "does not compile": (
        FakeMachine(cupy=fake_cupy(compiles=False)),
        ["does not compile or run (ValueError: common.cu(3): error: identifier is undefined)"],
    ),
    "wrong numbers": (FakeMachine(cupy=fake_cupy(kernel=lambda out: out**2)), ["wrong numbers"]),
}
