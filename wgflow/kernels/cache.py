"""Numba's on-disk cache, made safe: one folder per version of the kernels, one compiler at a time.

Numba's own cache misses edits in imported modules (it returns results of the old code) and can be corrupted by
processes that compile at the same time. Here the name of the folder is a hash of the code of the kernels and of the
compiler, and kernels are compiled or loaded under an exclusive lock on that folder. ``WGFLOW_CACHE=off`` turns the
cache off.
"""

from __future__ import annotations

import ast
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
from wgflow.base.files import lock

logger = logging.getLogger("wgflow.kernels")
_in_process = threading.RLock()


# Modules of this folder that do not affect a result: they choose a backend, run threads, keep memory, explain faults.
NO_RESULTS = frozenset(
    {"cache.py", "select.py", "auto.py", "cpu/threads.py", "cpu/buffers.py", "gpu/diagnose.py", "gpu/machine.py"}
)


@functools.cache
def fingerprint() -> str:
    """Hash of all code here that decides results, 12 hex digits, which trajectories record.

    That is every source, compiled or not, apart from :data:`NO_RESULTS`: the order of a sum follows from the sizes of
    chunks, groups and tiles too. See :func:`code` for what of a source counts.
    """
    return _fingerprint(Path(__file__).parent)


def _fingerprint(here: Path) -> str:
    digest = hashlib.sha256()
    for source in sorted(path for path in here.rglob("*") if path.suffix in (".py", ".cu")):
        name = source.relative_to(here).as_posix()
        if name not in NO_RESULTS:
            digest.update(f"{name}\0{code(source)}\0".encode())
    return digest.hexdigest()[:12]


def code(source: Path) -> str:
    """Code of a Python or CUDA source without comments, docstrings, messages of errors and layout."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".cu":
        lines = (line.split("//")[0].rstrip() for line in text.splitlines())
        return "\n".join(line for line in lines if line)
    parts = list[str]()
    _flatten(ast.parse(text), parts)
    return " ".join(parts)


def _flatten(node: Any, out_parts: list[str]) -> None:
    """Syntax tree as text. Empty fields, of which every Python has others (``ast.dump`` shows them), are left out."""
    if isinstance(node, list):
        for item in node:
            _flatten(item, out_parts)
    elif not isinstance(node, ast.AST):
        out_parts.append(repr(node))
    elif not _is_text(node):
        out_parts.append(f"({type(node).__name__}")
        for field in () if isinstance(node, ast.Raise) else node._fields:
            value = getattr(node, field, None)
            if value is not None and value != []:
                out_parts.append(field)
                _flatten(value, out_parts)
        out_parts.append(")")


def _is_text(node: ast.AST) -> bool:
    """Whether a node is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def folder(*sources: Path) -> Path | None:
    """Cache folder of the kernels here and in ``sources``, for this compiler and CPU; None if it cannot be written."""
    if os.environ.get("WGFLOW_CACHE", "").lower() == "off":
        return None
    import llvmlite
    import llvmlite.binding
    import numba

    settings: Any = numba.config
    machine = f"{llvmlite.binding.get_host_cpu_name()} {platform.machine()}"
    machine += "".join(f" {getattr(settings, name, None)}" for name in ("CPU_NAME", "CPU_FEATURES", "BOUNDSCHECK"))
    machine += "".join(f" {hashlib.sha256(code(source).encode()).hexdigest()}" for source in sources)
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
    """Folder of caches: XDG_CACHE_HOME if it is an absolute path, else ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return base if base.is_absolute() else Path.home() / ".cache"


def compiles() -> bool:
    """Whether Numba compiles; with NUMBA_DISABLE_JIT=1 it does not, and the kernels' intrinsics cannot run."""
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
    """Hold the lock of the cache folder, and have Numba use that folder while kernels are compiled or loaded.

    ``sources`` are files of compiled functions outside :mod:`wgflow.kernels`.
    """
    import numba

    with _in_process, contextlib.ExitStack() as stack:
        path = folder(*sources)
        if path is None or not _lock(path / "lock", stack):
            # A network disk without locks, or no writable cache: a private folder, compiled afresh and never shared.
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
        return lock(stack.enter_context(path.open("ab")), wait=True)
    except OSError:
        return False
