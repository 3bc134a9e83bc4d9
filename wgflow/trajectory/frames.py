"""Frames of a trajectory file: their bytes, and reading them, each checked against its digest."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wgflow.base.energy_balance import EMPTY, EnergyBalance
from wgflow.base.errors import InputError, TrajectoryError, describe
from wgflow.base.types import Array, Frame
from wgflow.base.validate import refuse_masked
from wgflow.trajectory import schema
from wgflow.trajectory.layout import Layout

_READ_BYTES = 16 * 2**20  # frames are read in chunks of about this size
_CHUNK = 2**14  # frames, at most, whose numbers are read at once


class Frames:
    """Committed frames of an open file; a method raises TrajectoryError where one does not match its digest.

    Parameters
    ----------
    file, layout : FileIO, Layout
        The file, and the places of its datasets.

    Attributes
    ----------
    count : int
        Committed frames. In an unfinished file a last frame that does not match its digest was being written, and is
        not counted.
    last : int
        Last frame with a digest, counted or not; -1 if there is none.
    marked : bool
        Whether the mark of a finished file is set, valid or not.
    finished : bool
        Whether the run reached its end.
    """

    def __init__(self, file: io.FileIO, layout: Layout) -> None:
        self.path, self.layout = file.name, layout
        self._file = file
        mark = self.array(schema.FINISHED).tobytes()
        self.marked = any(mark)
        self.finished = mark == layout.digests.of_finished(layout.frames)
        self.last = layout.frames - 1 if self.finished else self._last_commit()
        self.count = self.last + 1
        if self.count and not self.finished and not self.intact(self.count - 1):
            self.count -= 1

    def columns(self, block: int | None = None) -> dict[str, NDArray[Any]]:
        """Numbers of all frames by path, and the checksums of one block of each frame if given, read in long chunks."""
        parts = []
        for begin in range(0, self.count, self._chunk):
            numbers = self._numbers(begin, min(self.count, begin + self._chunk))
            checksums = numbers.pop(schema.BLOCKS)
            parts.append(numbers if block is None else numbers | {schema.BLOCKS: checksums[:, block]})
        parts = parts or [self._numbers(0, 0)]
        return {path: np.concatenate([part[path] for part in parts]) for path in parts[0]}

    def _numbers(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Numbers and arrays of frames start..stop-1 by path, and the checksums of their blocks (stop - start, B)."""
        digests = self.layout.digests
        out = {element.path: self._read(element.path, start, stop) for element in digests.numbers}
        blocks, commits = self._read(schema.BLOCKS, start, stop), self._read(schema.DIGEST, start, stop)
        packed = np.stack([column.view("<i8") for column in out.values()], axis=1)
        arrays = {element.path: self._read(element.path, start, stop) for element in digests.arrays}
        for k in range(stop - start):
            numbers = packed[k].tobytes() + b"".join(values[k].tobytes() for values in arrays.values())
            if digests.of_frame(start + k, numbers, blocks[k].tobytes()) != commits[k].tobytes():
                raise self._damaged(start + k)
        return out | arrays | {schema.BLOCKS: blocks}

    @property
    def _chunk(self) -> int:
        """Frames whose numbers and arrays are read at once."""
        wide = sum(self.layout.places[element.path].stride for element in self.layout.digests.arrays)
        return max(1, min(_CHUNK, _READ_BYTES // max(1, wide)))

    def read(self, start: int, stop: int) -> Iterator[Frame]:
        """Frames start..stop-1, read in long chunks."""
        stride = self.layout.places[schema.POSITION].stride + self.layout.places[schema.MASS].stride
        chunk = min(max(1, _READ_BYTES // max(1, stride)), self._chunk)
        for begin in range(start, stop, chunk):
            end = min(stop, begin + chunk)
            numbers = self._numbers(begin, end)
            position, mass = self._read(schema.POSITION, begin, end), self._read(schema.MASS, begin, end)
            for k in range(end - begin):
                if (self.layout.digests.of_blocks(position[k], mass[k]) != numbers[schema.BLOCKS][k]).any():
                    raise self._damaged(begin + k)
                row = {path: values[k] for path, values in numbers.items() if path != schema.BLOCKS}
                yield _frame(position[k], mass[k], row)

    def particle(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Positions (F, P + 1) and masses (F,) of one particle, read from its block of each frame."""
        layout = self.layout
        block, within = divmod(index, layout.digests.block)
        first = block * layout.digests.block
        last = min(first + layout.digests.block, layout.particles)
        blocks = self.columns(block)[schema.BLOCKS]
        position, mass = np.empty((self.count, layout.width)), np.empty(self.count)
        for k in range(self.count):
            rows, masses = (self._part(path, k, first, last) for path in (schema.POSITION, schema.MASS))
            if layout.digests.of_blocks(rows, masses)[0] != blocks[k]:
                raise self._damaged(k)
            position[k], mass[k] = rows[within], masses[within]
        return position, mass

    def intact(self, number: int) -> bool:
        """Whether a frame matches its digest, checked in little memory however large the frame claims to be."""
        digests, layout = self.layout.digests, self.layout
        try:
            expected = self._numbers(number, number + 1)[schema.BLOCKS][0]
        except TrajectoryError:
            return False
        piece = max(1, _READ_BYTES // (layout.width * 8))
        for block, first in enumerate(range(0, layout.particles, digests.block)):
            checksum, end = 0, min(first + digests.block, layout.particles)
            for path in (schema.POSITION, schema.MASS):
                for begin in range(first, end, piece):
                    part = self._part(path, number, begin, min(begin + piece, end))
                    checksum = zlib.crc32(part.data.cast("B"), checksum)
            if checksum != expected[block]:
                return False
        return True

    def array(self, path: str) -> NDArray[Any]:
        """All of a dataset that is not written frame by frame."""
        return self.layout.places[path].read(self._file)

    def _last_commit(self) -> int:
        """Last frame with a digest; -1 if there is none."""
        last = -1
        for begin in range(0, self.layout.frames, _CHUNK):
            digests = self._read(schema.DIGEST, begin, min(self.layout.frames, begin + _CHUNK))
            committed = np.flatnonzero(digests.any(axis=1))
            last = begin + int(committed[-1]) if committed.size else last
        return last

    def _read(self, path: str, start: int, stop: int) -> NDArray[Any]:
        """Rows start..stop-1 of a dataset."""
        return self.layout.places[path].rows(start, stop).read(self._file)

    def _part(self, path: str, number: int, first: int, last: int) -> NDArray[Any]:
        """Particles first..last-1 of one frame."""
        return self.layout.places[path].row(number).rows(first, last).read(self._file)

    def _damaged(self, number: int) -> TrajectoryError:
        return TrajectoryError(
            f"{self.path}: frame {number} is damaged: its numbers do not match their digest; "
            "wgflow repair FILE copies the undamaged frames"
        )


def _frame(position: NDArray[Any], mass: NDArray[Any], row: dict[str, Any]) -> Frame:
    extra = {path.split("/")[1]: value for path, value in row.items() if path.startswith("observables/")}
    balance = extra.get(schema.BALANCE)
    own = balance is not None and balance.shape == schema.BALANCE_SHAPE  # otherwise it is an observable of the caller
    sums = extra.pop(schema.BALANCE).tolist() if own else [math.nan]
    return Frame(
        step=int(row[schema.STEP]),
        s=float(row[schema.TIME]),
        theta=np.ascontiguousarray(position[:, :-1]),
        tau=np.ascontiguousarray(position[:, -1]),
        mass=mass,
        energy=float(extra.pop("energy")),
        dissipation=float(extra.pop("dissipation")),
        switches=int(extra.pop("switches")),
        h=float(extra.pop("step_length")),
        observables={name: value if np.ndim(value) else float(value) for name, value in extra.items()},
        balance=None if math.isnan(sums[0]) else EnergyBalance(*sums),
    )


def encode(frame: Frame, layout: Layout, out_position: Array) -> tuple[Array, Array, bytes, list[bytes]]:
    """Positions (N, P + 1), masses (N,), numbers (eight bytes for each) and arrays of a frame, in the file's types.

    Positions are written into ``out_position``.

    Raises
    ------
    InputError
        If the frame does not have the file's shape or observables, or not real numbers.
    """
    if set(frame.observables) != set(layout.callers):
        names = f"{list(layout.callers)}, as the file has, got {sorted(frame.observables)}"
        raise InputError(f"frame: expected observables {names}")
    measured = {schema.BALANCE: frame.balance or (math.nan,) * len(EMPTY)} | dict(frame.observables)
    if not layout.particles:
        frame = replace(frame, theta=np.empty((0, layout.width - 1)), tau=np.empty(0), mass=np.empty(0))
    for name in ("theta", "tau", "mass"):
        refuse_masked(f"frame: {name}", getattr(frame, name))
    for name, value in frame.observables.items():
        refuse_masked(f"frame: observable {name!r}", value)
    theta, tau, mass = np.asarray(frame.theta), np.asarray(frame.tau), np.ascontiguousarray(frame.mass)
    if any(array.dtype.kind not in "biuf" for array in (theta, tau, mass)):
        raise InputError(f"frame: expected real numbers, got {theta.dtype}, {tau.dtype}, {mass.dtype}")
    count, parameters = layout.particles, layout.width - 1
    if theta.shape != (count, parameters) or tau.shape != (count,) or mass.shape != (count,):
        got = f"theta {theta.shape}, tau {tau.shape}, mass {mass.shape}"
        raise InputError(f"frame: expected {count} particles of {parameters} parameters, got {got}")
    out_position[:, :-1], out_position[:, -1] = theta, tau
    others = [measured[name] for name, shape in layout.observables.items() if not shape]
    arrays = [_array(name, measured[name], shape) for name, shape in layout.observables.items() if shape]
    known = (frame.step, frame.s, frame.energy, frame.dissipation, frame.switches, frame.h)
    try:
        numbers = struct.pack(f"<qdddqd{len(others)}d", *known, *others)
    except (struct.error, TypeError) as error:
        raise InputError(f"frame: expected numbers, got {describe([*known, *others])} ({error})") from error
    return out_position, mass.astype("<f8", copy=False), numbers, arrays


def _array(name: str, value: object, shape: tuple[int, ...]) -> bytes:
    """Bytes of an observable that is an array."""
    values = np.asarray(value)
    if values.shape != shape or values.dtype.kind not in "biuf":
        raise InputError(f"frame: expected observable {name!r} of shape {shape}, got {describe(value)}")
    return values.astype("<f8").tobytes()
