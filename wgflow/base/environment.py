"""Settings of the process that last for a block of code: environment variables and threads of BLAS."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def environment(changed: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> Any:
    """Limit BLAS to one thread: the order of its sums depends on how many there are."""
    return _pools().limit(limits=1, user_api="blas")


def openmp_threads(count: int) -> Any:
    """Limit OpenMP, which other libraries compute with, to so many threads."""
    return _pools().limit(limits=count, user_api="openmp")
