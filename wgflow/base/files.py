"""Files that are never half written, and names of files that are never alike."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_LONGEST = 150  # characters of a label in a file's name
# What a file's name keeps whole, on systems that fold case too; a name of any other label ends in the label's digest.
_PLAIN = re.compile(r"[a-z0-9_.]+=(True|False|(?!(true|false)$)[a-z0-9_.+-]*)")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # names that Windows keeps for itself


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


def file_name(label: str) -> str:
    """Name, without its ending, of a member's file: no two labels share one, also where case or Unicode is folded.

    ``"count=32, seed=1"`` is ``count-32_seed-1``; what that leaves out of a label, or folds, a digest puts back.
    """
    name = sanitised(label)
    plain = all(_PLAIN.fullmatch(part) for part in label.split(", ")) and len(name) <= _LONGEST
    device = _DEVICES.match(name)
    if not label or (plain and not device):
        return name
    exact = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{'' if device else name[:_LONGEST]}~{exact}"


def sanitised(label: str) -> str:
    """Label as a file name, in which different labels may be alike."""
    stem = re.sub(r"[^A-Za-z0-9.+_-]+", "-", label.replace(", ", "_"))
    if len(stem) > _LONGEST:  # systems allow 255
        stem = f"{stem[:_LONGEST]}-{hashlib.sha256(stem.encode()).hexdigest()[:12]}"
    return stem or "only"
