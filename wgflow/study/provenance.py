"""Provenance of results: what made them, and the digest of what was asked for."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import sys
from importlib import metadata
from typing import Any

import wgflow
from wgflow.base.types import Spec
from wgflow.kernels import cache

_PACKAGES = ("numpy", "scipy", "numba", "h5py")


def digest(content: Spec) -> str:
    """Short name of plain JSON: 12 hex digits of its SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def provenance(backend: str, threads: int) -> Spec:
    """What made a result: versions, machine, backend."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["run"]:  # of the command wgflow
        arguments = arguments[1:]
    return {
        "wgflow": wgflow.__version__,
        "kernels": cache.fingerprint(),
        "backend": backend,
        "threads": threads,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "started": now(),
        "command": " ".join(["python -m wgflow.sims.run", *arguments]),
    }


def now() -> str:
    """Time of day in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def plain(content: Any) -> Any:
    """Content as JSON can hold it: NaN and infinities as None."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
