"""Writing a trajectory so that no kill loses a committed frame.

Every dataset is contiguous and allocated at once for a known number of frames, so that adding a frame changes no
metadata of HDF5. A frame's row of digests, written after its numbers have been flushed, is its commit; there is no
counter. When the file is full it is copied to one of twice the size and put in its place with ``os.replace``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import wgflow
from wgflow.energy import Energy
from wgflow.errors import InputError
from wgflow.problems import Problem
from wgflow.trajectory import schema
from wgflow.trajectory.reader import checked, committed_frames, frame_from_row
from wgflow.types import Frame, Spec, whole

_FSYNC_SECONDS = 30.0  # a power cut loses at most this much; a kill loses nothing


class TrajectoryWriter:
    """One writer of one trajectory file; use :meth:`create` or :meth:`resume`, and ``with``.

    Attributes
    ----------
    frames : int
        Committed frames.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._open()
        self.frames = committed_frames(self._file, self._elements)
        self._digest[self.frames :] = 0  # rows that do not verify were never committed
        self._synced = time.monotonic()

    @classmethod
    def create(
        cls,
        path: str | Path,
        energy: Energy,
        particles: int,
        *,
        flow: Spec | None = None,
        study: Spec | None = None,
        provenance: Spec | None = None,
        heldout: Problem | None = None,
        observables: tuple[str, ...] = (),
        capacity: int = 64,
    ) -> TrajectoryWriter:
        """Start a new file, in place of any that is there.

        Parameters
        ----------
        path : str or Path
            Where; its folder must exist.
        energy : Energy
            The energy that is descended, whose spec and data are stored.
        particles : int
            N.
        flow, study, provenance : dict, optional
            Plain JSON to store with the run.
        heldout : Problem, optional
            The problem on held-out samples, whose data are stored.
        observables : tuple of str, optional
            Names of the observables each frame will carry.
        capacity : int, optional
            Frames expected; the file grows if there are more.

        Raises
        ------
        InputError
            If an observable has a name of the schema's own.
        OSError
            If the file cannot be written.
        """
        whole("capacity", capacity)
        if len(set(observables)) < len(observables):
            raise InputError(f"observables: expected each name once, got {', '.join(observables)}")
        for name in observables:
            if name in schema.OWN_OBSERVABLES or "/" in name or not name:
                raise InputError(
                    f"observable {name!r}: expected a name without '/' other than {schema.OWN_OBSERVABLES}"
                )
        path = Path(path)
        draft = path.with_name(f".{path.name}.new")
        with h5py.File(draft, "w", userblock_size=schema.USER_BLOCK) as file:
            _preamble(file)
            size = {"F": capacity, "N": particles, "P+1": energy.problem.shape[3] + 1, "32": 32}
            for element in (*schema.elements(tuple(sorted(observables))), schema.COMMIT):
                _allocate(file, element.path, tuple(size[letter] for letter in element.shape), element.dtype)
            file[schema.DIGEST][:] = 0
            _link_times(file)
            _particle_box(file, particles, size["P+1"])
            documents = {
                "energy": energy.spec(),
                "flow": flow or {},
                "study": study or {},
                "provenance": provenance or {},
            }
            for name, document in documents.items():
                file[f"parameters/{name}"] = np.bytes_(json.dumps(document, sort_keys=True))
            _store(file, "parameters/data", energy.problem.arrays())
            if heldout is not None:
                _store(file, "parameters/heldout", {"x": heldout.x, "y": heldout.y})
        _put_in_place(draft, path)
        return cls(path)

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
        OSError
            If the disk is full or has gone; committed frames stay intact.
        """
        rows = self._rows(frame)
        if self.frames == self.capacity:
            self._resize(2 * self.capacity)
        for path, value in rows.items():
            self._data[path][self.frames] = value
        self._file.flush()
        self._digest[self.frames] = schema.frame_digest(self.frames, rows)
        self._file.flush()
        self.frames += 1
        if time.monotonic() - self._synced > _FSYNC_SECONDS:
            self._fsync()

    def last(self) -> Frame | None:
        """Return the last committed frame, None if there is none."""
        if not self.frames:
            return None
        rows = schema.read_rows(self._data, self.frames - 1, self.frames)
        return frame_from_row({path: values[0] for path, values in rows.items()})

    @property
    def capacity(self) -> int:
        """Frames the file has room for now."""
        return int(self._digest.shape[0])

    def finish(self) -> None:
        """Close the file of a finished run, cut to its frames: plain H5MD from then on."""
        if 0 < self.frames < self.capacity:
            self._resize(self.frames)
        self.close()

    def close(self) -> None:
        """Close the file as it is, to be taken up later."""
        if self._file:
            self._fsync()
            self._file.close()

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except OSError:
            if kind is None:  # otherwise the first error is the one to show
                raise

    def _open(self) -> None:
        self._file = checked(self.path, "r+")
        self._elements = schema.elements(schema.stored_observables(self._file))
        self._data = {element.path: self._file[element.path] for element in self._elements}
        self._digest = self._file[schema.DIGEST]

    def _rows(self, frame: Frame) -> dict[str, NDArray[Any]]:
        observables = {element.path.split("/")[1] for element in self._elements[len(schema.FRAMES) :]}
        if set(frame.observables) != observables:
            raise InputError(
                f"frame: expected observables {sorted(observables)}, as the file has, got {sorted(frame.observables)}"
            )
        values: dict[str, Any] = {
            f"{schema.GROUP}/position/value": np.column_stack([frame.theta, frame.tau]),
            schema.STEP: frame.step,
            schema.TIME: frame.s,
            f"{schema.GROUP}/mass/value": frame.mass,
            "observables/energy/value": frame.energy,
            "observables/dissipation/value": frame.dissipation,
            "observables/switches/value": frame.switches,
            "observables/step_length/value": frame.h,
        }
        values |= {schema.observable(name).path: frame.observables[name] for name in observables}
        rows = {}
        for element in self._elements:
            rows[element.path] = np.asarray(values[element.path], element.dtype)
            expected = self._data[element.path].shape[1:]
            if rows[element.path].shape != expected:
                raise InputError(f"frame: expected {element.path} of shape {expected}, got {rows[element.path].shape}")
        return rows

    def _resize(self, capacity: int) -> None:
        """Copy to a file with room for another number of frames and put it in this one's place."""
        draft = self.path.with_name(f".{self.path.name}.new")
        kept = min(self.frames, capacity)
        with h5py.File(draft, "w", userblock_size=schema.USER_BLOCK) as file:
            _preamble(file)
            for element in (*self._elements, schema.COMMIT):
                old = self._digest if element is schema.COMMIT else self._data[element.path]
                _allocate(file, element.path, (capacity, *old.shape[1:]), element.dtype)
                file[element.path][:kept] = old[:kept]
            file[schema.DIGEST][kept:] = 0
            _link_times(file)
            _, particles, width = self._data[f"{schema.GROUP}/position/value"].shape
            _particle_box(file, particles, width)
            self._file.copy("parameters", file)
        self._file.close()
        _put_in_place(draft, self.path)
        self._open()

    def _fsync(self) -> None:
        self._file.flush()
        descriptor = self._file.id.get_vfd_handle()
        os.fsync(descriptor)
        self._synced = time.monotonic()


def _preamble(file: h5py.File) -> None:
    file.create_group("h5md").attrs["version"] = np.array(schema.H5MD_VERSION, np.int32)
    file.create_group("h5md/author").attrs["name"] = np.bytes_("unknown")
    creator = file.create_group("h5md/creator")
    creator.attrs["name"] = np.bytes_("wgflow")
    creator.attrs["version"] = np.bytes_(wgflow.__version__)
    file.create_group("h5md/modules/wgflow").attrs["version"] = np.array(schema.MODULE_VERSION, np.int32)


def _allocate(file: h5py.File, path: str, shape: tuple[int, ...], dtype: str) -> None:
    """Contiguous dataset with its place in the file fixed now."""
    parent, name = path.rsplit("/", 1)
    options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    options.set_layout(h5py.h5d.CONTIGUOUS)
    options.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind, space = h5py.h5t.py_create(np.dtype(dtype), logical=True), h5py.h5s.create_simple(shape)
    h5py.h5d.create(file.require_group(parent).id, name.encode(), kind, space, options)


def _link_times(file: h5py.File) -> None:
    """Give every element of a frame the same step and time, as hard links."""
    groups = [file[f"{schema.GROUP}/mass"], *file["observables"].values()]
    for group in groups:
        group["step"], group["time"] = file[schema.STEP], file[schema.TIME]


def _particle_box(file: h5py.File, particles: int, width: int) -> None:
    box = file.create_group(f"{schema.GROUP}/box")
    box.attrs["dimension"] = width
    box.attrs["boundary"] = np.array([b"none"] * width)
    file[f"{schema.GROUP}/id"] = np.arange(particles)


def _store(file: h5py.File, group: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    inline = sum(array.nbytes for array in arrays.values()) <= schema.INLINE
    file.create_group(group).attrs["inline"] = inline
    for name, array in arrays.items():
        if inline or name in ("embed", "readout"):
            file[f"{group}/{name}"] = array


def _put_in_place(draft: Path, path: Path) -> None:
    with draft.open("r+b") as file:
        file.write(schema.MAGIC)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
