"""Checking a trajectory file for damage, and copying what is undamaged."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.base.errors import InputError, TrajectoryError
from wgflow.base.files import atomic_write
from wgflow.trajectory import layout, schema
from wgflow.trajectory.frames import Frames
from wgflow.trajectory.layout import Layout, opened
from wgflow.trajectory.new_file import create_like
from wgflow.trajectory.writer import TrajectoryWriter

_TIMEOUT = 60.0  # seconds HDF5 may take to read the structure of a file
_NEEDED = (f"{schema.GROUP}/id", *(f"parameters/{name}" for name in schema.DOCUMENTS))


class Report(NamedTuple):
    """State of a trajectory file.

    Attributes
    ----------
    frames : int
        Committed frames.
    finished : bool
        Whether its run reached its end.
    damage : list of str
        One line for each fault; empty for a sound file.
    in_flight : int
        1 if the last frame was still being written; it is left out of a copy.
    """

    frames: int
    finished: bool
    damage: list[str]
    in_flight: int = 0


def check(path: Path) -> Report:
    """Check a file against its seal, its digests and, through HDF5, its schema.

    Raises TrajectoryError if it is not a trajectory, or too damaged to be examined.
    """
    with opened(path) as file:
        places, damage = layout.read(file, sealed=False), []
        frames = Frames(file, places)
        try:
            layout.read(file)
        except TrajectoryError:
            lost = _damaged_arrays(frames)
            damage.append(f"outside the frames: {', '.join(lost) if lost else 'the structure of the HDF5 file'}")
        damage += [f"frame {number}" for number in range(frames.count) if not frames.intact(number)]
        if frames.marked and not frames.finished:
            damage.append("the mark of a finished file")
        if not damage:  # only then, since HDF5 may crash on a damaged file
            damage += _structure_faults(path, places)
        return Report(frames.count, frames.finished, damage, frames.last + 1 - frames.count)


def repair(path: Path, out: Path) -> Report:
    """Copy all frames, documents and arrays that match their digests into a new file.

    Parameters
    ----------
    path, out : Path
        A damaged trajectory, which is not changed, and the copy, which must not exist yet.

    Returns
    -------
    Report
        State of the copy; its ``damage`` lists what was left out.

    Raises
    ------
    InputError
        If ``out`` exists.
    TrajectoryError
        If no frame is undamaged, or neither the block in front of the file nor HDF5 locates them.
    """
    if out.exists():
        raise InputError(f"{out}: expected a name that is free, got a file; choose another")
    with opened(path) as file:
        frames = Frames(file, _places(path, file))
        lost = _damaged_arrays(frames)
        intact = [number for number in range(frames.count) if frames.intact(number)]
        if not intact:
            raise TrajectoryError(f"{path}: expected at least one frame that matches its digest, got none")
        ended = frames.finished and len(intact) == frames.count
        with atomic_write(out) as draft:
            create_like(frames, draft, len(intact), lost)
            with TrajectoryWriter(draft) as writer:
                for number in intact:
                    writer.append(next(frames.read(number, number + 1)))
                if ended:
                    writer.finish()
        left_out = [*lost, *(f"frame {number}" for number in range(frames.count) if number not in set(intact))]
        return Report(len(intact), ended, left_out, frames.last + 1 - frames.count)


def _damaged_arrays(frames: Frames) -> list[str]:
    """Documents and arrays that do not match the digests in front of the file, or have none."""
    places = frames.layout.places
    filled = {element.path for element in frames.layout.elements}
    static = {name: place.sha256 for name, place in places.items() if name not in filled}
    return [
        name for name, digest in static.items() if hashlib.sha256(frames.array(name).tobytes()).hexdigest() != digest
    ]


def _places(path: Path, file: io.FileIO) -> Layout:
    """Layout of a file from the block in front of it or, if that is lost, from HDF5."""
    try:
        return layout.read(file, sealed=False)
    except TrajectoryError as error:
        try:
            return layout.from_json(_ask_hdf5("places_in", path), path.stat().st_size)
        except (TrajectoryError, ValueError, TypeError) as other:
            raise error from other


def _ask_hdf5(function: str, path: Path) -> list[Any]:
    """Result of a function of :mod:`h5md` for a file, computed in a process that may crash, hang or exhaust memory."""
    script = f"import sys; from wgflow.trajectory import h5md; print(h5md.{function}(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=_TIMEOUT)
        result: list[Any] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise TrajectoryError(f"{path}: damaged, HDF5 cannot read its structure") from error
    return result


def _structure_faults(path: Path, expected: Layout) -> list[str]:
    """Differences between HDF5's view of a file and the block in front of it, and links that lead elsewhere."""
    try:
        links = [f"{name}: expected data, got a {kind}" for name, kind in _ask_hdf5("links_in", path)]
        listed = [] if links else _ask_hdf5("places_in", path)
    except TrajectoryError:
        return ["the structure of the HDF5 file"]
    actual = {name: (dtype, tuple(shape), offset) for name, dtype, shape, offset, _ in listed}
    sealed = {name: (place.dtype.str, place.shape, place.offset) for name, place in expected.places.items()}
    wrong = [
        f"{name}: expected {place}, got {actual.get(name)} in HDF5"
        for name, place in sealed.items()
        if actual.get(name) != place
    ]
    return links or [*wrong, *(f"{path} is missing" for path in _NEEDED if path not in sealed)]
