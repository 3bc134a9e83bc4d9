"""Files between a client and a worker that share no disk: in pieces, with their digest, and put in place atomically."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wgflow.base.files import atomic_write

if TYPE_CHECKING:
    from distributed import Client

PIECE = 4 * 2**20  # bytes sent at once
_APPEAR = 60.0  # seconds for which a network disk may hide what another machine has written


class Stored(NamedTuple):
    """A file, here or on a worker's machine.

    Attributes
    ----------
    path : str
        Where it is.
    size : int
        Its bytes.
    sha256 : str
        Their digest.
    """

    path: str
    size: int
    sha256: str


def stored(path: Path) -> Stored:
    """Size and digest of a file that nobody is writing."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Stored(str(path), file.tell(), sha256)


def fetch(client: Client, worker: str, file: Stored, path: Path) -> None:
    """Copy a file of a worker's machine to a path here, which it replaces once it is complete.

    Raises
    ------
    OSError
        If the worker is lost, the bytes are not those it announced, or they cannot be written here.
    """
    digest = hashlib.sha256()
    with atomic_write(path) as draft:
        with draft.open("wb") as copy:
            for offset in range(0, file.size, PIECE):
                piece = _on(client, worker, read_piece, file.path, offset, PIECE)
                digest.update(piece)
                copy.write(piece)
        if digest.hexdigest() != file.sha256:
            raise OSError(f"{path}: expected SHA-256 {file.sha256} from worker {worker}, got {digest.hexdigest()}")


def send(client: Client, worker: str, path: Path, target: str) -> None:
    """Copy a file of this machine to a path on a worker's, which it replaces once it is complete.

    Raises
    ------
    OSError
        If the worker is lost or cannot write it, or the bytes that arrive are others.
    """
    file = stored(path)
    with path.open("rb") as source:
        for offset in range(0, max(file.size, 1), PIECE):
            _on(client, worker, write_piece, target, offset, source.read(PIECE))
    _on(client, worker, put_in_place, target, file.sha256)


def remove(client: Client, worker: str, paths: list[str]) -> None:
    """Remove files of a worker's machine."""
    _on(client, worker, unlink, paths)


def wait_for(path: Path, size: int) -> None:
    """Wait for a file that a worker has written to a disk of both, which may show it later here than there."""
    given_up = time.monotonic() + _APPEAR
    while size and time.monotonic() < given_up:
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # which has the system ask the server again
            if path.stat().st_size == size:
                return
        time.sleep(0.1)


def _on(client: Client, worker: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a worker's process, beside the member that it runs."""
    try:
        return client.run(function, *arguments, workers=[worker])[worker]
    except KeyError as error:
        raise WorkerLost(worker) from error
    except OSError as error:
        if type(error).__module__.startswith("distributed"):  # of the connection, and not of the disk
            raise WorkerLost(worker) from error
        raise


class WorkerLost(OSError):
    """A worker that has a file is not there any more."""

    def __init__(self, worker: str) -> None:
        super().__init__(f"worker {worker} was lost while it sent or received a file")


def read_piece(path: str, offset: int, count: int) -> bytes:
    """Read bytes of a file, on its machine."""
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(count)


def write_piece(path: str, offset: int, piece: bytes) -> None:
    """Write bytes of a draft; the first piece starts it anew."""
    draft = Path(f"{path}.part")
    draft.parent.mkdir(parents=True, exist_ok=True)
    if not offset:
        draft.write_bytes(b"")
    with draft.open("r+b") as file:
        file.seek(offset)
        file.write(piece)


def put_in_place(path: str, sha256: str) -> None:
    """Have a draft become the file, if its bytes are those that were sent."""
    draft = Path(f"{path}.part")
    found = stored(draft).sha256
    if found != sha256:
        draft.unlink()
        raise OSError(f"{path}: expected SHA-256 {sha256} from the client, got {found}")
    os.replace(draft, path)


def unlink(paths: list[str]) -> None:
    """Remove files, those that are there."""
    for path in paths:
        Path(path).unlink(missing_ok=True)
