"""Atomic writes, locks between processes, and unique file names for labels."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from wgflow.base.errors import BusyError

_LONGEST = 150  # characters of a label in a file's name
# Labels that a file name keeps unchanged, also where case is folded; other names end in the label's digest.
_PLAIN = re.compile(r"[a-z0-9_.]+=(True|False|(?!(true|false)$)[a-z0-9_.+-]*)")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # reserved by Windows


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Temporary path for a new file, which atomically replaces ``path`` on success and is removed on failure."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")  # one per process
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def remove_drafts(path: Path) -> None:
    """Remove temporary files that killed processes have left; the caller holds the lock of ``path``."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
        draft.unlink(missing_ok=True)


def lock(file: BinaryIO, wait: bool = False) -> bool:
    """Lock an open file against other processes; False where the system or the disk has no locks.

    Raises
    ------
    BlockingIOError
        If another process has locked it and this one is not to wait.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ModuleNotFoundError, OSError):
        return False
    return True


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Exclude other writers of a file or raise BusyError; the lock is another file, which readers never touch.

    Tells whether the lock file was there already: a writer that was killed leaves it, and perhaps a draft.
    """
    name = path.with_name(f".{path.name}.lock")
    left = name.exists()
    with _locked(name, path):
        try:
            yield left
        finally:
            name.unlink(missing_ok=True)


def _locked(name: Path, path: Path) -> BinaryIO:
    """Open and lock the file that has that name once it is locked."""
    while True:
        file = name.open("ab")
        try:
            if not lock(file):
                return file
        except BlockingIOError as error:
            file.close()
            raise BusyError(f"{path}: another process is writing this file; wait for it to end") from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(name.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # its holder has just removed it, and another writer may lock a new one


def _sync(folder: Path) -> None:
    """Flush the new name to disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_name(label: str) -> str:
    """File name of a run, without suffix, unique for its label even where case or Unicode is folded.

    ``"count=32, seed=1"`` is ``count-32_seed-1``; a label that this shortens or folds gets a digest.
    """
    name = sanitised(label)
    plain = all(_PLAIN.fullmatch(part) for part in label.split(", ")) and len(name) <= _LONGEST
    device = _DEVICES.match(name)
    if not label or (plain and not device):
        return name
    exact = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{'' if device else name[:_LONGEST]}~{exact}"


def sanitised(label: str) -> str:
    """Label as a file name, not necessarily unique."""
    stem = re.sub(r"[^A-Za-z0-9.+_-]+", "-", label.replace(", ", "_"))
    if len(stem) > _LONGEST:  # systems allow 255
        stem = f"{stem[:_LONGEST]}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"
    return stem or "only"
