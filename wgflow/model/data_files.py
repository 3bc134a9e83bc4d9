"""Data files identified by SHA-256, so that a study never computes with a file that has changed."""

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
    """SHA-256 of several files by their names and contents, whatever their folders."""
    lines = "".join(f"{Path(path).name}:{sha256}\n" for path, sha256 in known)
    return hashlib.sha256(lines.encode()).hexdigest()


def read(path: Path, known: Digests | None = None) -> bytes:
    """Bytes of a file, whose digest is compared with the known one.

    Parameters
    ----------
    path : Path
        The file.
    known : tuple of (str, str), optional
        Files and digests from when the study was read; None accepts any bytes.

    Raises
    ------
    InputError
        If the bytes have changed, or the file is not one of them.
    OSError
        If it cannot be read.
    """
    raw = path.read_bytes()
    if known is not None:
        _compare(path, dict(known).get(str(path), ""), hashlib.sha256(raw).hexdigest())
    return raw


def check_unchanged(known: Digests) -> None:
    """Read files again and compare their digests with the known ones.

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
