"""Files that are never half written."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Path to make a file at, which then takes the place of another; nothing of it is left if that fails.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")  # two processes never share one
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
        _settle(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sweep_drafts(path: Path) -> None:
    """Remove what processes that were killed have left while they made a file; for who holds the file's lock."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        draft.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Have the disk know of the new name, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
