"""CUDA C++ source of the GPU backend, compiled by NVRTC, and by the tests for the host."""

from __future__ import annotations

from functools import cache
from importlib import resources

# In this order: later files use definitions of earlier ones. No #include, so that no path is needed at run time.
FILES = (
    *("common.cu", "activation.cu", "tile.cu", "network.cu", "sums.cu", "layered.cu"),
    *("order.cu", "particles.cu", "noise.cu"),  # what a flow does between two gradients
)


@cache
def source() -> str:
    """Text of all kernels; REAL is left to the compiler's options, float or double."""
    folder = resources.files(__name__)
    return "\n".join(f'#line 1 "{name}"\n' + (folder / name).read_text(encoding="utf-8") for name in FILES)


def options(precision: str) -> tuple[str, ...]:
    """Options of NVRTC, apart from the architecture, for a precision, "float32" or "float64"."""
    return "-std=c++17", f"-DREAL={'double' if precision == 'float64' else 'float'}"
