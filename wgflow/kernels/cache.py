"""Numba's on-disk cache, made safe: one folder per version of the kernels, one compiler at a time.

Left alone, Numba's cache misses edits in imported modules (it returns results of the old code) and can be corrupted
by processes that compile at once. Here the folder's name is a hash of every kernel source and of the compiler, and
loading or compiling happens under an exclusive lock on that folder. ``WGFLOW_CACHE=off`` turns the cache off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wgflow.base.errors import BackendError

logger = logging.getLogger("wgflow.kernels")
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
    try:
        path = _base() / "wgflow" / hashlib.sha256(versions.encode()).hexdigest()[:16]
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, RuntimeError) as error:  # the latter from a user without a home
        logger.warning("no folder to keep compiled kernels in (%s), so this process compiles its own", error)
        return None


def _base() -> Path:
    """Folder of caches: XDG_CACHE_HOME, which counts if it is absolute, or .cache of the home."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return base if base.is_absolute() else Path.home() / ".cache"


def compiles() -> bool:
    """Whether Numba compiles; under NUMBA_DISABLE_JIT=1 it does not, and the kernels' intrinsics have no meaning."""
    try:
        import numba
    except ValueError as error:  # of an environment variable of its own
        raise BackendError(f"NUMBA_NUM_THREADS: expected a number >= 1, got another ({error})") from error

    settings: Any = numba.config
    if settings.DISABLE_JIT:
        _say_interpreted()
    return not settings.DISABLE_JIT


@functools.cache
def _say_interpreted() -> None:
    logger.warning("NUMBA_DISABLE_JIT=1: backend 'reference', in NumPy, stands for 'cpu', and is many times slower")


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
        file = stack.enter_context(path.open("ab"))
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
