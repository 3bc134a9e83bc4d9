"""Numba's on-disk cache, made safe: one folder per version of the kernels, one compiler at a time.

Left alone, Numba's cache misses edits in imported modules (it returns results of the old code) and can be corrupted
by processes that compile at once. Here the folder's name is a hash of every kernel source and of the compiler, and
loading or compiling happens under an exclusive lock on that folder. ``WGFLOW_CACHE=off`` turns the cache off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_in_process = threading.RLock()


@functools.cache
def fingerprint() -> str:
    """Hash of the kernel sources alone, 12 hex digits; trajectories record it."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for source in sorted(each for each in here.rglob("*") if each.suffix in (".py", ".cu")):
        digest.update(source.relative_to(here).as_posix().encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@functools.cache
def folder(*sources: Path) -> Path | None:
    """Cache folder of these kernels, and of others' ``sources``, under this compiler and CPU; None if there is none."""
    if os.environ.get("WGFLOW_CACHE", "").lower() == "off":
        return None
    import llvmlite
    import llvmlite.binding
    import numba

    settings: Any = numba.config
    machine = f"{llvmlite.binding.get_host_cpu_name()} {platform.machine()}"
    machine += "".join(f" {getattr(settings, name, None)}" for name in ("CPU_NAME", "CPU_FEATURES", "BOUNDSCHECK"))
    machine += "".join(f" {hashlib.sha256(each.read_bytes()).hexdigest()}" for each in sources)
    versions = f"{fingerprint()} {numba.__version__} {llvmlite.__version__} {sys.version} {machine}"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "wgflow" / hashlib.sha256(versions.encode()).hexdigest()[:16]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError:
        return None


@contextlib.contextmanager
def exclusive(*sources: Path) -> Iterator[None]:
    """Hold the cache folder's lock, and point Numba at that folder while kernels are declared or compiled.

    ``sources`` are the files of compiled functions outside this folder.
    """
    import numba

    with _in_process, contextlib.ExitStack() as stack:
        path = folder(*sources)
        if path is None or not _lock(path / "lock", stack):
            # A network disk without locks, or no writable cache: a private folder, compiled afresh, never shared.
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wgflow-")))
        config: Any = numba.config
        before = config.CACHE_DIR
        config.CACHE_DIR = str(path)
        try:
            yield
        finally:
            config.CACHE_DIR = before


def _lock(path: Path, stack: contextlib.ExitStack) -> bool:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return False
    try:
        file = stack.enter_context(path.open("w"))
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
