"""Files that are never half written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def draft_of(path: Path) -> Path:
    """Where a file is made before it takes its name."""
    return path.with_name(f".{path.name}.new")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Path to make a file at, which then takes the place of another; nothing of it is left if that fails.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    draft = draft_of(path)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
