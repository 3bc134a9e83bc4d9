"""Looking after trajectory files: what is wrong with one, and a copy of what is right."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from wgflow.base.errors import InputError, TrajectoryError
from wgflow.base.files import replaced
from wgflow.trajectory import layout, schema
from wgflow.trajectory.frames import Rows
from wgflow.trajectory.layout import Layout
from wgflow.trajectory.reader import opened
from wgflow.trajectory.writer import TrajectoryWriter, emptied

_PATIENCE = 60.0  # seconds HDF5 may take over the structure of a file
_NEEDED = (f"{schema.GROUP}/id", *(f"parameters/{name}" for name in schema.DOCUMENTS))


class Report(NamedTuple):
    """What a file was found to be.

    Attributes
    ----------
    frames : int
        Committed frames.
    finished : bool
        Whether its run came to its end.
    damage : list of str
        One line for each thing wrong; none for a sound file.
    in_flight : int
        1 if there is a frame at the end that was being written, or of a copy, that was left out for it.
    """

    frames: int
    finished: bool
    damage: list[str]
    in_flight: int = 0


def check(path: Path) -> Report:
    """Hold a file against its seal, its digests and, through HDF5, its schema.

    Raises
    ------
    TrajectoryError
        If it is no trajectory, or so damaged that nothing more can be said.
    """
    with opened(path) as file:
        found, damage = layout.read(path, file, sealed=False), []
        rows = Rows(path, file, found)
        try:
            layout.read(path, file)
        except TrajectoryError:
            lost = _damaged_arrays(rows)
            damage.append(f"outside the frames: {', '.join(lost) if lost else 'the structure of the HDF5 file'}")
        damage += [f"frame {number}" for number in range(rows.count) if not rows.whole(number)]
        if rows.marked and not rows.finished:
            damage.append("the mark of a finished file")
        if not damage:  # never before: HDF5 may crash on a damaged file
            damage += _beside_the_schema(path, found)
        return Report(rows.count, rows.finished, damage, rows.last + 1 - rows.count)


def repair(path: Path, out: Path) -> Report:
    """Copy the frames that match their digests, and everything else that is whole, into a new file.

    Parameters
    ----------
    path : Path
        A damaged trajectory; it is not touched.
    out : Path
        The copy, which must not be there yet.

    Returns
    -------
    Report
        Of the copy: its frames, and what was left out.

    Raises
    ------
    InputError
        If ``out`` is there.
    TrajectoryError
        If no frame is left, or neither the block in front of the file nor HDF5 can say where they are.
    """
    if out.exists():
        raise InputError(f"{out}: expected a name that is free, got a file; choose another")
    with opened(path) as file:
        rows = Rows(path, file, _places(path, file))
        lost = _damaged_arrays(rows)
        whole = [number for number in range(rows.count) if rows.whole(number)]
        if not whole:
            raise TrajectoryError(f"{path}: expected at least one frame that matches its digest, got none")
        with replaced(out) as draft:
            emptied(rows, draft, len(whole), lost)
            with TrajectoryWriter(draft) as writer:
                for number in whole:
                    writer.append(next(rows.frames(number, number + 1)))
                if rows.finished and len(whole) == rows.count:
                    writer.finish()
        left_out = [*lost, *(f"frame {number}" for number in range(rows.count) if number not in set(whole))]
        ended = rows.finished and len(whole) == rows.count
        return Report(len(whole), ended, left_out, rows.last + 1 - rows.count)


def _damaged_arrays(rows: Rows) -> list[str]:
    """Documents and arrays that do not match the digests in front of the file, or have none."""
    found = rows.layout
    filled = {each.path for each in (*found.elements, *schema.COMMIT)}
    static = {name: place.sha256 for name, place in found.places.items() if name not in filled}
    return [name for name, digest in static.items() if hashlib.sha256(rows.array(name).tobytes()).hexdigest() != digest]


def _places(path: Path, file: io.FileIO) -> Layout:
    """Places of a file's datasets from the block in front; if that is gone, from HDF5 in a process that may crash."""
    try:
        return layout.read(path, file, sealed=False)
    except TrajectoryError as error:
        try:
            listed = _asked("places_in", path)
            return layout.from_json(listed, path.stat().st_size)
        except (TrajectoryError, ValueError, TypeError) as other:
            raise error from other


def _asked(function: str, path: Path) -> list[Any]:
    """What a function of :mod:`skeleton` says of a file, asked in a process that may crash, hang or eat memory.

    Raises
    ------
    TrajectoryError
        If it did.
    """
    script = f"import sys; from wgflow.trajectory import skeleton; print(skeleton.{function}(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(path)]
    try:
        asked = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=_PATIENCE)
        found: list[Any] = json.loads(asked.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        raise TrajectoryError(f"{path}: damaged, HDF5 cannot read its structure") from error
    return found


def _beside_the_schema(path: Path, found: Layout) -> list[str]:
    """What HDF5 sees otherwise than the block in front says, and links that lead elsewhere."""
    try:
        links = [f"{name}: expected data, got a {kind}" for name, kind in _asked("links_in", path)]
        seen = {} if links else {each[0]: (each[1], tuple(each[2]), each[3]) for each in _asked("places_in", path)}
    except TrajectoryError:
        return ["the structure of the HDF5 file"]
    said = {name: (place.dtype.str, place.shape, place.offset) for name, place in found.places.items()}
    wrong = [
        f"{name}: expected {said[name]}, got {seen.get(name)} in HDF5" for name in said if seen.get(name) != said[name]
    ]
    return links or [*wrong, *(f"{path} is missing" for path in _NEEDED if path not in said)]
