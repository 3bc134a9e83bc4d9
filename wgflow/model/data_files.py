"""Data files known by the SHA-256 of their bytes, so that a file which changes under a study is never computed with."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeAlias

from wgflow.base.errors import InputError

Digests: TypeAlias = tuple[tuple[str, str], ...]  # path and SHA-256 of each file


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: expected a readable data file ({error.strerror})") from error


def combined(known: Digests) -> str:
    """SHA-256 of several files, by their names and contents, wherever they lie."""
    lines = "".join(f"{Path(path).name}:{each}\n" for path, each in known)
    return hashlib.sha256(lines.encode()).hexdigest()


def read(path: Path, known: Digests | None = None) -> bytes:
    """Bytes of a file, after comparing their digest with the one it is known by.

    Parameters
    ----------
    path : Path
        The file.
    known : tuple of (str, str), optional
        Files and digests as they were when the study was read; None takes any bytes.

    Raises
    ------
    InputError
        If the bytes, or the file, are not the known ones.
    OSError
        If it cannot be read.
    """
    raw = path.read_bytes()
    if known is not None:
        _compare(path, dict(known).get(str(path), ""), hashlib.sha256(raw).hexdigest())
    return raw


def check_unchanged(known: Digests) -> None:
    """Read files again and compare their digests with those they are known by.

    Raises
    ------
    InputError
        If one has changed or is gone.
    """
    for path, expected in known:
        _compare(Path(path), expected, digest(Path(path)))


def _compare(path: Path, expected: str, got: str) -> None:
    if got != expected:
        before = f"with SHA-256 {expected[:12]}..." if expected else "that was not there"
        raise InputError(
            f"{path}: changed while the study ran: expected the file {before} when it began, got SHA-256 {got[:12]}...;"
            " put the old file back, or run the command again to study the new one"
        )
