"""Reading a trajectory: a lazy sequence of frames, each checked against its digest before it is handed out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wgflow.energy import Energy
from wgflow.errors import InputError, TrajectoryError, unknown
from wgflow.trajectory import labelled, schema
from wgflow.types import Array, Frame, Spec

if TYPE_CHECKING:
    import xarray

_READ_BYTES = 16 * 2**20  # frames are read in runs of about this size


class Trajectory(Sequence[Frame]):
    """A run as a sequence of frames, read when asked for.

    Parameters
    ----------
    path : str or Path
        A file written by wgflow, finished or still being written; the writer is not disturbed.

    Attributes
    ----------
    path : Path
        The file.
    parameters : dict
        The documents stored with the run: ``energy``, ``flow``, ``study`` and ``provenance``.

    Raises
    ------
    TrajectoryError
        If the file is missing, foreign, damaged or of another version.

    Examples
    --------
    ``frame = trajectory[-1]``, ``trajectory[::10]``, ``trajectory.series("energy")``,
    ``flow.run(trajectory[-1], until=200.0)``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = checked(self.path, "r")
        with _damage(self.path):
            elements = schema.elements(schema.stored_observables(self._file))
            self._data = {element.path: self._file[element.path] for element in elements}
            self._digests = np.asarray(self._file[schema.DIGEST])
            self.parameters: dict[str, Spec] = {
                name: json.loads(self._file[f"parameters/{name}"][()])
                for name in ("energy", "flow", "study", "provenance")
            }
        self._length = _committed_rows(self._digests)
        self._verified = np.zeros(self._length, bool)
        frame_bytes = sum(data.dtype.itemsize * int(np.prod(data.shape[1:])) for data in self._data.values())
        self._stride = max(1, _READ_BYTES // frame_bytes)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | list[Frame]:
        """Frame by number, counted from the end if negative; a list of frames for a slice."""
        if isinstance(index, slice):
            numbers = range(*index.indices(len(self)))
            return list(self if numbers == range(len(self)) else map(self._frame, numbers))
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path}: expected a frame number in 0..{len(self) - 1}, got {index}")
        return self._frame(number)

    def __iter__(self) -> Iterator[Frame]:
        for start in range(0, len(self), self._stride):
            rows = self._read(start, min(start + self._stride, len(self)))
            for k in range(len(rows[schema.STEP])):
                yield frame_from_row({path: values[k] for path, values in rows.items()})

    def __repr__(self) -> str:
        return f"Trajectory({str(self.path)!r}, frames={len(self)})"

    @property
    def observables(self) -> tuple[str, ...]:
        """Names of the series in the file."""
        return (*schema.OWN_OBSERVABLES, *schema.stored_observables(self._open_file()))

    def series(self, name: str) -> NDArray[Any]:
        """One number a frame, (F,): ``"s"``, ``"step"``, or any of :attr:`observables`.

        Raises
        ------
        InputError
            If there is no such series.
        TrajectoryError
            If a frame does not match its digest.
        """
        places = {"s": schema.TIME, "step": schema.STEP}
        places |= {each: schema.observable(each).path for each in self.observables}
        if name not in places:
            raise unknown("series", name, places)
        for start in range(0, len(self), self._stride):
            stop = min(start + self._stride, len(self))
            if not self._verified[start:stop].all():
                self._read(start, stop)
        return np.asarray(self._file[places[name]][: len(self)])

    def energy(
        self,
        samples: str = "data",
        data: Mapping[str, ArrayLike] | None = None,
        backend: str = "cpu",
        threads: int | None = None,
        own: Mapping[str, Any] | None = None,
    ) -> Energy:
        """Rebuild the energy the run descended, from the file alone.

        Parameters
        ----------
        samples : {"data", "heldout"}, optional
            The samples trained on, or those held out.
        data : mapping of str to array_like, optional
            Arrays x and y, needed only if they were too large to be stored.
        backend, threads : optional
            As for :class:`~wgflow.energy.Energy`.
        own : mapping of str to object, optional
            Objects of your own the run was made with; see :meth:`wgflow.Energy.from_spec`.

        Raises
        ------
        InputError
            If the file has no such samples.
        """
        if samples not in ("data", "heldout"):
            raise unknown("samples", samples, ("data", "heldout"))
        stored = self._arrays("data") | (dict(data or {}) if samples == "data" else {})
        if not {"x", "y"} <= set(stored):
            raise InputError(
                f"{self.path}: expected data={{'x': ..., 'y': ...}}, as they were too large to store, got none"
            )
        energy = Energy.from_spec(self.parameters["energy"], stored, backend, threads, own)
        if samples == "data":
            return energy
        if "parameters/heldout" not in self._open_file():
            raise InputError(f"{self.path}: expected held-out samples, got a run without any")
        heldout = self._arrays("heldout") | dict(data or {})
        problem = energy.problem.replace(heldout["x"], heldout["y"])
        return Energy(problem, energy.depth, backend, energy.dtype, threads)

    def to_xarray(self, particles: bool = True) -> xarray.Dataset:
        """All frames as arrays with named dimensions.

        Parameters
        ----------
        particles : bool, optional
            Also the particles of every frame, which are read into memory, F N (P + 2) numbers; series alone otherwise.

        Returns
        -------
        xarray.Dataset
            theta (frame, particle, component), tau and mass (frame, particle) and a series (frame,) for each of
            :attr:`observables`; flow time ``s`` and ``step`` are coordinates along frame. Attributes: the documents of
            :attr:`parameters`, as JSON.

        Raises
        ------
        InputError
            If xarray is not installed.
        TrajectoryError
            If a frame does not match its digest.
        """
        return labelled.to_xarray(self, particles)

    @property
    def holds_data(self) -> bool:
        """Whether the problem's samples are in the file; very large ones are not."""
        return "parameters/data/x" in self._open_file()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Trajectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_file(self) -> h5py.File:
        if not self._file:
            raise TrajectoryError(f"{self.path}: this Trajectory has been closed; open it again")
        return self._file

    def _arrays(self, group: str) -> dict[str, Array]:
        file = self._open_file()
        with _damage(self.path):
            place = file.get(f"parameters/{group}", {})
            return {name: np.asarray(place[name]) for name in place}

    def _frame(self, number: int) -> Frame:
        return frame_from_row({path: values[0] for path, values in self._read(number, number + 1).items()})

    def _read(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Arrays of frames start..stop-1 by path, each frame checked against its digest."""
        self._open_file()
        with _damage(self.path):
            rows = schema.read_rows(self._data, start, stop)
        for k in range(stop - start):
            row = {path: values[k] for path, values in rows.items()}
            if not np.array_equal(schema.frame_digest(start + k, row), self._digests[start + k]):
                raise TrajectoryError(
                    f"{self.path}: frame {start + k} is damaged: its numbers do not match their digest"
                )
        self._verified[start:stop] = True
        return rows


def frame_from_row(row: Mapping[str, NDArray[Any]]) -> Frame:
    """Frame from the arrays of one row of the file, keyed by path."""
    position = row[f"{schema.GROUP}/position/value"]
    extra = {path.split("/")[1]: value for path, value in row.items() if path.startswith("observables/")}
    return Frame(
        step=int(row[schema.STEP]),
        s=float(row[schema.TIME]),
        theta=np.ascontiguousarray(position[:, :-1]),
        tau=np.ascontiguousarray(position[:, -1]),
        mass=row[f"{schema.GROUP}/mass/value"],
        energy=float(extra.pop("energy")),
        dissipation=float(extra.pop("dissipation")),
        switches=int(extra.pop("switches")),
        h=float(extra.pop("step_length")),
        observables={name: float(value) for name, value in extra.items()},
    )


def checked(path: Path, mode: str) -> h5py.File:
    """Open a file after checking that it is a trajectory of a version this wgflow reads.

    Raises
    ------
    TrajectoryError
        If it is not, or another process is writing it (``mode="r+"``).
    """
    if not path.is_file():
        raise TrajectoryError(f"{path}: expected a trajectory file, got nothing there; run the study first")
    with path.open("rb") as raw:
        if not raw.read(len(schema.MAGIC)).startswith(schema.MAGIC):
            raise TrajectoryError(f"{path}: expected a wgflow trajectory, got a file without its mark")
    file = _open(path, mode)
    try:
        with _damage(path):
            version = tuple(int(part) for part in file["h5md/modules/wgflow"].attrs["version"])
            missing = [element.path for element in (*schema.FRAMES, schema.COMMIT) if element.path not in file]
        if version[0] != schema.MODULE_VERSION[0]:
            raise TrajectoryError(
                f"{path}: expected format version {schema.MODULE_VERSION[0]}.x, got {version[0]}.{version[-1]}; "
                "use the wgflow that wrote it"
            )
        if missing:
            raise TrajectoryError(f"{path}: damaged, expected datasets {', '.join(missing)}, got none")
    except TrajectoryError:
        file.close()
        raise
    return file


def _open(path: Path, mode: str) -> h5py.File:
    try:
        if mode == "r+":
            return h5py.File(path, mode)
        try:
            return h5py.File(path, mode, locking=False)  # a lock would keep the writer from opening its own file
        except OSError as error:
            if "locking flag" not in str(error):
                raise
            return h5py.File(path, mode)  # this very process is writing it, and HDF5 wants both to agree
    except BlockingIOError as error:
        raise TrajectoryError(f"{path}: another process is writing this file; wait for it to end") from error
    except PermissionError:
        raise
    except OSError as error:
        if "already open" in str(error) or "locking flag" in str(error):
            raise TrajectoryError(f"{path}: open for reading in this process; close that Trajectory first") from error
        raise TrajectoryError(f"{path}: damaged, HDF5 cannot open it ({error})") from error


def committed_frames(file: h5py.File, elements: tuple[schema.Element, ...]) -> int:
    """Frames from the first on that are committed and match their digests."""
    digests = np.asarray(file[schema.DIGEST])
    data = {element.path: file[element.path] for element in elements}
    for number in range(_committed_rows(digests)):
        row = {path: values[0] for path, values in schema.read_rows(data, number, number + 1).items()}
        if not np.array_equal(schema.frame_digest(number, row), digests[number]):
            return number
    return _committed_rows(digests)


def _committed_rows(digests: NDArray[np.uint8]) -> int:
    blank = ~digests.any(axis=1)
    return int(np.argmax(blank)) if blank.any() else len(digests)


class _damage:
    """Turn what h5py raises on a broken file into a TrajectoryError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(
            error, (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError)
        ) and not isinstance(error, TrajectoryError):
            raise TrajectoryError(f"{self.path}: damaged ({error})") from error
