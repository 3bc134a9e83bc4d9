"""One writer per file, by a lock file next to it, which readers never touch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wgflow.base.errors import TrajectoryError


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Exclude other writers of a file. The lock is a separate file, so that it never conflicts with a reader's lock.

    Raises
    ------
    TrajectoryError
        If another writer holds it.
    """
    lock = path.with_name(f".{path.name}.lock")
    with _locked(lock, path):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _locked(lock: Path, path: Path) -> BinaryIO:
    """Open and lock the file that has that name once it is locked."""
    while True:
        file = lock.open("ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise TrajectoryError(f"{path}: another process is writing this file; wait for it to end") from error
        except (ModuleNotFoundError, OSError):  # no locks on this system or disk
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # its holder has just removed it, and another writer may lock a new one
