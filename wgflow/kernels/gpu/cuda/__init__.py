"""CUDA C++ sources of the GPU backend, as one text: what NVRTC compiles, and the tests on the host."""

from __future__ import annotations

from functools import cache
from importlib import resources

# In this order: later files use what earlier ones define. No #include, so that no path has to be found at run time.
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
    """What NVRTC is told, beside the architecture, for a precision: "float32" or "float64"."""
    return "-std=c++17", f"-DREAL={'double' if precision == 'float64' else 'float'}"
