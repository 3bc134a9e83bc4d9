"""Writing a trajectory so that no kill loses a committed frame.

A frame's numbers go to known places of the file, one plain write each, and nothing else is ever touched. Its row of
digests, written last, is its commit; there is no counter. When the file is full it is copied to one of twice the size,
which takes its place with ``os.replace``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.base.energy_balance import EMPTY
from wgflow.base.errors import InputError, LostError, TrajectoryError, describe
from wgflow.base.files import replaced, sweep_drafts
from wgflow.base.types import Array, Frame, Spec
from wgflow.base.validate import refuse_masked, whole
from wgflow.trajectory import h5md as skeleton
from wgflow.trajectory import layout, schema
from wgflow.trajectory.frames import Rows
from wgflow.trajectory.layout import Layout, read_at, write_at
from wgflow.trajectory.lock import alone

_FSYNC_SECONDS = 30.0  # a power cut loses at most this much; a kill loses nothing
_FIRST_CAPACITY = 2**20  # at most; a file with more frames grows
_PIECE = 16 * 2**20


class Held(Protocol):
    """Samples."""

    @property
    def x(self) -> Array:
        """Inputs (M, D_in)."""

    @property
    def y(self) -> Array:
        """Targets (M, K)."""


class Data(Protocol):
    """Arrays that never change, and sizes."""

    def arrays(self) -> dict[str, Array]:
        """Arrays by name."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Samples, state width, outputs, and parameters of one particle."""


class Described(Protocol):
    """What a trajectory stores of the system that is run, as :class:`wgflow.Energy` has it."""

    @property
    def problem(self) -> Data:
        """Its data."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


class TrajectoryWriter:
    """One writer of one trajectory file; use :meth:`create` or :meth:`resume`, and ``with``.

    Attributes
    ----------
    path : Path
        The file.
    frames : int
        Committed frames.
    dropped : int
        Committed frames that are not there any more, because one at or before them turned out damaged when the file
        was opened; the run computes them again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()  # one lock however the file is called
        self._held = contextlib.ExitStack()
        self._held.enter_context(alone(self.path))
        try:
            sweep_drafts(self.path)
            self._open()
            self._drop_what_is_damaged()
        except BaseException:
            self._held.close()
            raise
        self._synced = time.monotonic()

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to be pickled or copied: a file has one writer, which holds its lock."""
        raise InputError(
            f"{self.path}: expected something that can be pickled or copied, got the file's one writer; hand on the "
            "path, and open the file with Trajectory to read it or TrajectoryWriter.resume to go on"
        )

    @classmethod
    def create(
        cls,
        path: str | Path,
        energy: Described,
        particles: int,
        *,
        flow: Spec | None = None,
        study: Spec | None = None,
        provenance: Spec | None = None,
        heldout: Held | None = None,
        observables: Sequence[str] | Mapping[str, tuple[int, ...]] = (),
        capacity: int = 64,
    ) -> TrajectoryWriter:
        """Start a new file, in place of any that is there.

        Parameters
        ----------
        path : str or Path
            Where; its folder must exist.
        energy : Energy or Described
            What is descended, whose spec and data are stored.
        particles : int
            N; 0 for a file of numbers along s without particles, whose frames are no starts.
        flow, study, provenance : dict, optional
            Plain JSON to store with the run.
        heldout : Problem, optional
            The problem on held-out samples, whose data are stored.
        observables : sequence of str, or mapping of str to tuple of int, optional
            Names of the observables each frame will carry, or their shapes by name, at most two dimensions; () and
            names alone are for numbers.
        capacity : int, optional
            Frames expected; the file grows if there are more.

        Raises
        ------
        InputError
            If an observable has a name of the schema's own or a shape that is none.
        TrajectoryError
            If another process is writing this file.
        LostError
            If the file is removed as soon as it is there.
        OSError
            If the file cannot be written.
        """
        capacity = whole("capacity", capacity)
        particles = whole("particles", particles, least=0)
        if len(set(observables)) < len(observables):
            raise InputError(f"observables: expected each name once, got {', '.join(observables)}")
        shapes: dict[str, tuple[int, ...]] = {}
        shapes |= observables if isinstance(observables, Mapping) else dict.fromkeys(observables, ())
        for name, shape in shapes.items():
            sizes = [whole(f"shape of observable {name!r}", n) for n in shape]
            if len(shape) > 2 or math.prod(sizes) > schema.MOST_ENTRIES:
                raise InputError(
                    f"observable {name!r}: expected at most two dimensions and {schema.MOST_ENTRIES} entries, got "
                    f"shape {shape}"
                )
            if name in schema.RESERVED or "/" in name or name.strip(". ") != name or not 0 < len(name) <= 100:
                raise InputError(
                    f"observable {describe(name)}: expected at most 100 characters without '/', and none of the names "
                    f"{', '.join(sorted(schema.RESERVED))}"
                )
        shapes[schema.BALANCE] = schema.BALANCE_SHAPE
        path = Path(path).resolve()
        documents = {"energy": energy.spec(), "flow": flow, "study": study, "provenance": provenance}
        arrays = _stored("data", energy.problem.arrays())
        if heldout is not None:
            arrays |= _stored("heldout", {"x": heldout.x, "y": heldout.y})
        with alone(path), replaced(path) as draft:
            skeleton.create(
                draft,
                frames=min(capacity, _FIRST_CAPACITY),
                particles=particles,
                width=energy.problem.shape[3] + 1,
                observables=shapes,
                documents={name: json.dumps(content or {}, sort_keys=True) for name, content in documents.items()},
                arrays=arrays,
            )
        try:
            return cls(path)
        except TrajectoryError as error:
            if path.exists():
                raise
            raise LostError(f"{path}: removed while it was written; the same command runs this member again") from error

    @classmethod
    def resume(cls, path: str | Path) -> TrajectoryWriter:
        """Open a file to go on after its last committed frame.

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
            If the file was removed or exchanged since it was opened.
        OSError
            If the disk is full or has gone; committed frames stay intact.
        """
        self._check_open()
        self._check_there()
        position, mass, numbers, arrays = self._parts(frame)
        if self.frames == schema.MOST_FRAMES:
            raise InputError(f"{self.path}: expected at most {schema.MOST_FRAMES} frames, got one more; record fewer")
        if self.frames == self.capacity:
            self._resize(min(2 * self.capacity, schema.MOST_FRAMES))
        digests = self._layout.digests
        blocks = digests.of_blocks(position, mass).tobytes()
        each = (numbers[at : at + 8] for at in range(0, len(numbers), 8))
        commit = digests.of_frame(self.frames, numbers + b"".join(arrays), blocks)
        parts = (position, mass, *each, *arrays, blocks, commit)
        for (offset, stride), data in zip(self._spots, parts, strict=True):
            write_at(self._file, offset + self.frames * stride, data)  # the commit comes last
        self.frames += 1
        self._commit = commit
        if time.monotonic() - self._synced > _FSYNC_SECONDS:
            self._fsync()

    def last(self) -> Frame | None:
        """Return the last committed frame, None if there is none."""
        self._check_open()
        return next(self._rows.frames(self.frames - 1, self.frames)) if self.frames else None

    @property
    def capacity(self) -> int:
        """Frames the file has room for now."""
        return self._layout.frames

    def finish(self) -> None:
        """Close the file of a finished run, cut to its frames and marked as finished; errors as :meth:`append`."""
        self._check_there()
        if 0 < self.frames < self.capacity:
            self._resize(self.frames, finished=True)
        elif self.frames and not self._rows.finished:
            self._fsync()
            write_at(self._file, self._layout.places[schema.FINISHED].offset, self._mark(self._layout))
        self.close()

    def close(self) -> None:
        """Close the file as it is, to be taken up later.

        Raises
        ------
        LostError
            If it was removed or exchanged since it was opened.
        OSError
            If the disk has gone.
        """
        if not self._file.closed:
            with self._held:
                try:
                    self._fsync()
                    self._check_there()
                finally:
                    self._file.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError as lost:
            stopped = kind is not None and not issubclass(kind, Exception)  # it would say that the run can go on
            if kind is None or (stopped and isinstance(lost, LostError)):
                raise  # otherwise the first error is the one to show

    def _check_open(self) -> None:
        if self._file.closed:
            raise TrajectoryError(f"{self.path}: this writer has been closed; resume the file to go on")

    def _check_there(self) -> None:
        """Look whether the file of that name is still the one that is written, and its last frame the one committed."""
        if self._file.closed:
            return
        place = self._layout.places[schema.DIGEST]
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
            whole = same and read_at(self._file, 0, len(self._front)) == self._front
            if whole and self._commit:
                at = place.offset + (self.frames - 1) * place.stride
                whole = read_at(self._file, at, place.stride) == self._commit
        except (FileNotFoundError, TrajectoryError):  # gone, or cut short
            whole = False
        if not whole:
            there = self.path.exists()
            what, first = ("exchanged", "delete what is there, and ") if there else ("removed", "")
            raise LostError(f"{self.path}: {what} while it was written; {first}the same command runs this member again")

    def _open(self) -> None:
        layout.require_file(self.path)
        self._file = open(self.path, "r+b", buffering=0)
        try:
            self._layout = layout.read(self.path, self._file)
            if self._layout.version > schema.MODULE_VERSION:
                raise TrajectoryError(
                    f"{self.path}: expected format version {'.'.join(map(str, schema.MODULE_VERSION))} or before to go "
                    f"on with, got {'.'.join(map(str, self._layout.version))}; use the wgflow that wrote it"
                )
            self._rows = Rows(self.path, self._file, self._layout)
        except BaseException:
            self._file.close()
            raise
        self.frames = self._rows.count
        digests = self._layout.digests
        order = [schema.POSITION, schema.MASS, *(each.path for each in (*digests.numbers, *digests.arrays))]
        places = [self._layout.places[path] for path in (*order, schema.BLOCKS, schema.DIGEST)]
        self._spots = [(place.offset, place.stride) for place in places]
        self._position = np.empty((self._layout.particles, self._layout.width), "<f8")
        self._front = read_at(self._file, 0, layout.SEALED)
        self._commit = b""  # digest of the frame written last

    def _drop_what_is_damaged(self) -> None:
        """Leave the frames from the first on that match their digests; the run makes the others again."""
        self.frames = next((k for k in range(self._rows.count) if not self._rows.whole(k)), self._rows.count)
        self.dropped = self._rows.count - self.frames  # a frame that was in flight was never committed
        digest, mark = (self._layout.places[path] for path in (schema.DIGEST, schema.FINISHED))
        if self.dropped and self._rows.finished:
            write_at(self._file, mark.offset, bytes(mark.size))
            self._rows.finished = False
        for k in reversed(range(self.frames, self._rows.last + 1)):  # backwards: never a gap between commits
            write_at(self._file, digest.offset + k * digest.stride, bytes(digest.stride))

    def _parts(self, frame: Frame) -> tuple[NDArray[Any], NDArray[Any], bytes, list[bytes]]:
        """Position (N, P + 1), mass (N,), the numbers of a frame, each as eight bytes, and its arrays."""
        observables = self._layout.observables
        own = self._layout.callers
        if set(frame.observables) != set(own):
            raise InputError(
                f"frame: expected observables {list(own)}, as the file has, got {sorted(frame.observables)}"
            )
        measured = {schema.BALANCE: frame.balance or (math.nan,) * len(EMPTY)} | dict(frame.observables)
        if not self._layout.particles:
            frame = replace(frame, theta=np.empty((0, self._layout.width - 1)), tau=np.empty(0), mass=np.empty(0))
        shape = (self._layout.particles, self._layout.width)
        for name in ("theta", "tau", "mass"):
            refuse_masked(f"frame: {name}", getattr(frame, name))
        for name, value in frame.observables.items():
            refuse_masked(f"frame: observable {name!r}", value)
        theta, tau, mass = np.asarray(frame.theta), np.asarray(frame.tau), np.ascontiguousarray(frame.mass)
        if any(each.dtype.kind not in "biuf" for each in (theta, tau, mass)):
            raise InputError(f"frame: expected real numbers, got {theta.dtype}, {tau.dtype}, {mass.dtype}")
        if theta.shape != (shape[0], shape[1] - 1) or tau.shape != shape[:1] or mass.shape != shape[:1]:
            got = f"theta {theta.shape}, tau {tau.shape}, mass {mass.shape}"
            raise InputError(f"frame: expected {shape[0]} particles of {shape[1] - 1} parameters, got {got}")
        position = self._position
        position[:, :-1], position[:, -1] = theta, tau
        others = [measured[name] for name, shape in observables.items() if not shape]
        arrays = [_array(name, measured[name], shape) for name, shape in observables.items() if shape]
        known = (frame.step, frame.s, frame.energy, frame.dissipation, frame.switches, frame.h)
        try:
            numbers = struct.pack(f"<qdddqd{len(others)}d", *known, *others)
        except (struct.error, TypeError) as error:
            raise InputError(f"frame: expected numbers, got {describe([*known, *others])} ({error})") from error
        return position, mass.astype("<f8", copy=False), numbers, arrays

    def _mark(self, target: Layout) -> bytes:
        return target.digests.of_finished(target.frames)

    def _resize(self, capacity: int, finished: bool = False) -> None:
        """Copy to a file with room for another number of frames and put it in this one's place."""
        with replaced(self.path) as draft:
            copy = emptied(self._rows, draft, capacity)
            with open(draft, "r+b", buffering=0) as file:
                for path in (*(each.path for each in self._layout.elements), schema.BLOCKS, schema.DIGEST):
                    old, new = self._layout.places[path], copy.places[path]
                    for at in range(0, self.frames * old.stride, _PIECE):
                        size = min(_PIECE, self.frames * old.stride - at)
                        write_at(file, new.offset + at, layout.read_at(self._file, old.offset + at, size))
                if finished:
                    write_at(file, copy.places[schema.FINISHED].offset, self._mark(copy))
        frames, commit = self.frames, self._commit
        self._file.close()
        self._open()
        self.frames = frames
        self._commit = commit

    def _fsync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()


def emptied(rows: Rows, path: Path, capacity: int, without: Collection[str] = ()) -> Layout:
    """Make a file like another one, with room for another number of frames and none in it.

    Parameters
    ----------
    rows : Rows
        The other file.
    path : Path
        Where to make it.
    capacity : int
        Frames to make room for.
    without : collection of str, optional
        Documents and arrays, by path, that are left empty or out.

    Raises
    ------
    TrajectoryError
        If what is to be copied is no longer what was sealed.
    OSError
        If it cannot be written.
    """
    found = rows.layout
    wanted = {each.path for each in schema.STATIC} - {f"{schema.GROUP}/id", *without}
    static = {name: rows.array(name) for name in found.places if name in wanted}
    for name, values in static.items():
        if hashlib.sha256(values.tobytes()).hexdigest() != found.places[name].sha256:
            raise TrajectoryError(f"{rows.path}: damaged, {name} has changed since the file was sealed")
    documents = dict.fromkeys(schema.DOCUMENTS, "{}")
    documents |= {name: bytes(static.pop(f"parameters/{name}")[()]).decode("ascii")
                  for name in documents if f"parameters/{name}" in static}  # fmt: skip
    skeleton.create(
        path,
        frames=capacity,
        particles=found.particles,
        width=found.width,
        observables=found.observables,
        documents=documents,
        arrays=static,
    )
    with open(path, "rb", buffering=0) as file:
        return layout.read(path, file)


def _array(name: str, value: object, shape: tuple[int, ...]) -> bytes:
    """Bytes of an observable that is an array."""
    values = np.asarray(value)
    if values.shape != shape or values.dtype.kind not in "biuf":
        raise InputError(f"frame: expected observable {name!r} of shape {shape}, got {describe(value)}")
    return values.astype("<f8").tobytes()


def _stored(group: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Arrays that go into the file; data that are too large do not."""
    inline = sum(array.nbytes for array in arrays.values()) <= schema.INLINE
    return {f"parameters/{group}/{name}": a for name, a in arrays.items() if inline or name in ("embed", "readout")}
