"""What a client and its workers must have in common for the same bits: versions, and the sources of this package."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib import metadata
from pathlib import Path

import wgflow

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "h5py")


@functools.cache
def versions(packages: tuple[str, ...] = ()) -> dict[str, str]:
    """Versions in this process, by name.

    Parameters
    ----------
    packages : tuple of str, optional
        Packages beside those of every run; a missing one has the version ``"none"``.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    found = {"wgflow": f"{wgflow.__version__} (sources {sources()})", "Python": python}
    for name in (*_PACKAGES, *packages):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def processor() -> str:
    """Name of this machine's processor, which decides the width of its registers, and so the last bits."""
    import llvmlite.binding

    name: str = llvmlite.binding.get_host_cpu_name()
    return name


@functools.cache
def sources() -> str:
    """Digest of the sources of this package, 8 hex digits: two checkouts of one version may differ."""
    root = Path(wgflow.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".py", ".cu")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:8]


def skew(here: dict[str, str], there: dict[str, str]) -> str:
    """What a worker has that differs from here, as ``numba 0.61.0 (here 0.68.1)``; empty if nothing does."""
    return ", ".join(
        f"{name} {there.get(name, 'none')} (here {value})" for name, value in here.items() if there.get(name) != value
    )


def lacking(error: BaseException) -> str:
    """What a worker lacks that could not import this package, or has another; empty for any other error."""
    names = ("ModuleNotFoundError", "ImportError", "AttributeError")  # Dask keeps some errors as words alone
    return f"another wgflow, or none ({error})" if any(name in repr(error) for name in names) else ""
