"""Reads and writes at given offsets of an unbuffered file, all bytes or an error."""

from __future__ import annotations

import io
import os
from typing import Any

from wgflow.base.errors import TrajectoryError


def read_at(file: io.FileIO, offset: int, size: int) -> bytearray:
    """Bytes of a file from an offset; raises TrajectoryError if the file is shorter, or the memory too small."""
    try:
        out = bytearray(size)
    except MemoryError as error:
        raise TrajectoryError(f"{file.name!r}: expected data that fit into memory, got {size} bytes") from error
    view, done = memoryview(out), 0
    while done < size:
        count = _pread(file, view[done:], offset + done)
        if not count:
            raise TrajectoryError(f"{file.name!r}: damaged, cut short while it was read")
        done += count
    return out


def write_at(file: io.FileIO, offset: int, data: Any) -> None:
    """Write bytes at an offset, all of them; raises OSError if the disk is full or gone."""
    done, size = _pwrite(file, data, offset), len(data) if type(data) is bytes else memoryview(data).nbytes
    while done < size:  # a full disk may take a part of the bytes; the next write then raises the error
        done += _pwrite(file, memoryview(data).cast("B")[done:], offset + done)


if hasattr(os, "pwrite"):  # several threads may read from one file

    def _pread(file: io.FileIO, view: memoryview, offset: int) -> int:
        return os.preadv(file.fileno(), [view], offset)

    def _pwrite(file: io.FileIO, view: Any, offset: int) -> int:
        return os.pwrite(file.fileno(), view, offset)

else:  # Windows

    def _pread(file: io.FileIO, view: memoryview, offset: int) -> int:
        file.seek(offset)
        return file.readinto(view)

    def _pwrite(file: io.FileIO, view: Any, offset: int) -> int:
        file.seek(offset)
        return file.write(view) or 0
