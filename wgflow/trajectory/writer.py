"""Writing a trajectory so that no kill loses a committed frame.

A frame's numbers are written to fixed offsets of the file, one plain write per dataset, and nothing else is touched.
The frame's digest, written last, commits it; there is no counter. A full file is copied to one of twice the size, which
replaces it with ``os.replace``.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wgflow.base.errors import InputError, LostError, TrajectoryError
from wgflow.base.files import alone, atomic_write, remove_drafts
from wgflow.base.types import Frame, Spec
from wgflow.base.validate import whole
from wgflow.trajectory import layout, new_file, schema
from wgflow.trajectory.file_io import read_at, write_at
from wgflow.trajectory.frames import Frames, encode
from wgflow.trajectory.layout import Layout
from wgflow.trajectory.new_file import Data, Recordable

_FSYNC_SECONDS = 30.0  # a power cut loses at most this much; a kill loses nothing
_PIECE = 16 * 2**20


class TrajectoryWriter:
    """One writer of one trajectory file; use :meth:`create` or :meth:`resume`, and ``with``.

    Attributes
    ----------
    path : Path
        The file.
    frames : int
        Committed frames.
    dropped : int
        Committed frames removed when the file was opened, because they or an earlier one were damaged; the run computes
        them again.
    """

    def __init__(self, path: str | Path, swept: bool = False) -> None:
        self.path = Path(path).resolve()  # one lock however the file is called
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(alone(self.path))
        try:
            if not swept:
                remove_drafts(self.path)
            self._open()
            self._drop_damaged()
        except BaseException:
            self._lock.close()
            raise
        self._synced = time.monotonic()

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be pickled or copied: a file has one writer, which holds its lock."""
        raise InputError(
            f"{self.path}: expected something that can be pickled or copied, got the file's one writer; hand on the "
            "path, and open the file with Trajectory to read it or TrajectoryWriter.resume to continue it"
        )

    @classmethod
    def create(
        cls,
        path: str | Path,
        energy: Recordable,
        particles: int,
        *,
        flow: Spec | None = None,
        study: Spec | None = None,
        provenance: Spec | None = None,
        heldout: Data | None = None,
        observables: Sequence[str] | Mapping[str, tuple[int, ...]] = (),
        capacity: int = 64,
    ) -> TrajectoryWriter:
        """Start a new file, replacing any of that name.

        Parameters
        ----------
        path : str or Path
            The file; its folder must exist.
        energy : Recordable
            The system that is run, whose spec and data are stored.
        particles : int
            N; 0 for a file of numbers along s without particles, from whose frames no run can start.
        flow, study, provenance : dict, optional
            Plain JSON to store with the run.
        heldout : Problem, optional
            Problem on held-out samples, whose data are stored.
        observables : sequence of str, or mapping of str to tuple of int, optional
            Names of the observables of each frame, if all are numbers, or their shapes by name, () for a number and
            at most two dimensions.
        capacity : int, optional
            Frames expected; the file grows if there are more.

        Raises
        ------
        InputError
            If the name of an observable is reserved or its shape not valid.
        TrajectoryError
            If another process is writing this file.
        LostError
            If the file is removed as soon as it is made.
        OSError
            If the file cannot be written.
        """
        capacity, particles = whole("capacity", capacity), whole("particles", particles, least=0)
        shapes, path = new_file.observable_shapes(observables), Path(path).resolve()
        documents = {"flow": flow, "study": study, "provenance": provenance}
        with alone(path) as left:
            if left:  # otherwise there are no drafts, and looking for them would take longer the more files there are
                remove_drafts(path)
            with atomic_write(path) as draft:
                new_file.create(draft, energy, particles, documents, heldout, shapes, capacity)
        try:
            return cls(path, swept=True)
        except TrajectoryError as error:
            if path.exists():
                raise
            raise LostError(f"{path}: removed while it was written; the same command runs this member again") from error

    @classmethod
    def resume(cls, path: str | Path) -> TrajectoryWriter:
        """Open a file to continue after its last committed frame.

        Raises
        ------
        TrajectoryError
            If the file is damaged or foreign, or another process is writing it.
        """
        return cls(path)

    def append(self, frame: Frame) -> None:
        """Write and commit one frame.

        Raises
        ------
        InputError
            If the frame does not have the file's shape or observables.
        LostError
            If the file was removed or replaced since it was opened.
        OSError
            If the disk is full or gone; committed frames stay intact.
        """
        self._check_open()
        self._check_unchanged()
        position, mass, numbers, arrays = encode(frame, self._layout, self._position)
        if self.frames == schema.MOST_FRAMES:
            raise InputError(f"{self.path}: expected at most {schema.MOST_FRAMES} frames, got one more; record fewer")
        if self.frames == self.capacity:
            self._resize(min(2 * self.capacity, schema.MOST_FRAMES))
        digests = self._layout.digests
        blocks = digests.of_blocks(position, mass).tobytes()
        columns = (numbers[at : at + 8] for at in range(0, len(numbers), 8))
        commit = digests.of_frame(self.frames, numbers + b"".join(arrays), blocks)
        parts = (position, mass, *columns, *arrays, blocks, commit)
        for (offset, stride), data in zip(self._offsets, parts, strict=True):
            write_at(self._file, offset + self.frames * stride, data)  # the commit comes last
        self.frames += 1
        self._commit = commit
        if time.monotonic() - self._synced > _FSYNC_SECONDS:
            self._fsync()

    def last(self) -> Frame | None:
        """Last committed frame, None if there is none."""
        self._check_open()
        return next(self._stored.read(self.frames - 1, self.frames)) if self.frames else None

    @property
    def capacity(self) -> int:
        """Frames that fit into the file at its present size."""
        return self._layout.frames

    def finish(self) -> None:
        """Cut the file of a finished run to its frames, mark it as finished and close it; errors as :meth:`append`."""
        self._check_unchanged()
        if 0 < self.frames < self.capacity:
            self._resize(self.frames, finished=True)
        elif self.frames and not self._stored.finished:
            self._fsync()
            self._mark_finished(self._file, self._layout)
        self.close()

    def close(self) -> None:
        """Close the file as it is; :meth:`resume` continues it.

        Raises
        ------
        LostError
            If it was removed or replaced since it was opened.
        OSError
            If the disk is gone.
        """
        if not self._file.closed:
            with self._lock:
                try:
                    self._fsync()
                    self._check_unchanged()
                finally:
                    self._file.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except OSError as lost:
            stopped = kind is not None and not issubclass(kind, Exception)  # and promises that the run can resume
            if kind is None or (stopped and isinstance(lost, LostError)):
                raise  # otherwise the first error is the one to report

    def _check_open(self) -> None:
        if self._file.closed:
            raise TrajectoryError(f"{self.path}: this writer has been closed; resume the file to continue")

    def _check_unchanged(self) -> None:
        """Check that the path still names the file being written, and that its last frame is the one committed."""
        if self._file.closed:
            return
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
            unchanged = same and read_at(self._file, 0, len(self._front)) == self._front
            if unchanged and self._commit:
                offset, stride = self._offsets[-1]
                unchanged = read_at(self._file, offset + (self.frames - 1) * stride, stride) == self._commit
        except (FileNotFoundError, TrajectoryError):  # gone, or cut short
            unchanged = False
        if not unchanged:
            exists = self.path.exists()
            what, first = ("exchanged", "delete what is there, and ") if exists else ("removed", "")
            raise LostError(f"{self.path}: {what} while it was written; {first}the same command runs this member again")

    def _open(self) -> None:
        self._file = layout.opened(self.path, "r+b")
        try:
            self._layout = layout.read(self._file)
            if self._layout.version > schema.MODULE_VERSION:
                raise TrajectoryError(
                    f"{self.path}: expected format version {'.'.join(map(str, schema.MODULE_VERSION))} or before to "
                    f"continue, got {'.'.join(map(str, self._layout.version))}; use the wgflow that wrote it"
                )
            self._stored = Frames(self._file, self._layout)
        except BaseException:
            self._file.close()
            raise
        self.frames = self._stored.count
        digests = self._layout.digests
        order = [schema.POSITION, schema.MASS, *(element.path for element in (*digests.numbers, *digests.arrays))]
        places = [self._layout.places[path] for path in (*order, schema.BLOCKS, schema.DIGEST)]
        self._offsets = [(place.offset, place.stride) for place in places]
        self._position = np.empty((self._layout.particles, self._layout.width), "<f8")
        self._front = read_at(self._file, 0, layout.SEALED)
        self._commit = b""  # digest of the last frame written

    def _drop_damaged(self) -> None:
        """Drop all frames from the first damaged one on; the run computes them again."""
        self.frames = next((k for k in range(self._stored.count) if not self._stored.intact(k)), self._stored.count)
        self.dropped = self._stored.count - self.frames  # a frame that was being written was never committed
        digest, mark = (self._layout.places[path] for path in (schema.DIGEST, schema.FINISHED))
        if self.dropped and self._stored.finished:
            write_at(self._file, mark.offset, bytes(mark.size))
            self._stored.finished = False
        for k in reversed(range(self.frames, self._stored.last + 1)):  # backwards, so that commits never have a gap
            write_at(self._file, digest.row(k).offset, bytes(digest.stride))

    def _mark_finished(self, file: io.FileIO, target: Layout) -> None:
        write_at(file, target.places[schema.FINISHED].offset, target.digests.of_finished(target.frames))

    def _resize(self, capacity: int, finished: bool = False) -> None:
        """Replace the file by a copy with room for another number of frames."""
        with atomic_write(self.path) as draft:
            copy = new_file.create_like(self._stored, draft, capacity)
            with open(draft, "r+b", buffering=0) as file:
                for path in (element.path for element in self._layout.elements if element.path != schema.FINISHED):
                    old, new = self._layout.places[path].rows(0, self.frames), copy.places[path]
                    for at in range(0, old.size, _PIECE):
                        piece = read_at(self._file, old.offset + at, min(_PIECE, old.size - at))
                        write_at(file, new.offset + at, piece)
                if finished:
                    self._mark_finished(file, copy)
        frames, commit = self.frames, self._commit
        self._file.close()
        self._open()
        self.frames = frames
        self._commit = commit

    def _fsync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()
