"""Properties of the machine that the GPU diagnosis needs: installed packages, driver, CuPy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

# CuPy is a package of its own for every CUDA version; all of them install the module cupy.
WHEELS = ("cupy", *(f"cupy-cuda{major}x" for major in (11, 12, 13, 14)), "cupy-rocm-5-0", "cupy-rocm-7-0")
COMPILERS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc-cu11")


class Machine:
    """Properties of this machine; the tests substitute others."""

    def version(self, package: str) -> str | None:
        """Version of a package; None if it is not installed."""
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
        return None

    def driver(self) -> int:
        """CUDA version that the driver supports, 1000 major + 10 minor; 0 without a driver."""
        try:
            library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        except OSError:
            return 0
        number = ctypes.c_int()
        return number.value if library.cuDriverGetVersion(ctypes.byref(number)) == 0 else 0

    def release(self) -> str:
        """Version of the driver on Linux; ``""`` if unknown."""
        with contextlib.suppress(OSError):
            found = re.search(r"\b\d+\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
            return found[0] if found else ""
        return ""

    def switch(self, name: str) -> bool:
        """Whether an environment variable of CuPy is set."""
        return os.environ.get(name, "0") not in ("", "0")

    def cupy(self) -> Any:
        """The module; raises ImportError."""
        import cupy

        return cupy

    def headers(self) -> str:
        """Folder of cuda_runtime.h; ``""`` if it is not found."""
        with contextlib.suppress(Exception):  # a courtesy: a version of the finder without it is no fault
            from cuda.pathfinder import find_nvidia_header_directory

            return str(find_nvidia_header_directory("cudart") or "")
        return ""


HERE = Machine()
