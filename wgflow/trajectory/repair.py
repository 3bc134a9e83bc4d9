"""Looking after trajectory files: what is wrong with one, and a copy of what is right."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from wgflow.errors import InputError, TrajectoryError
from wgflow.files import replaced
from wgflow.trajectory import layout, schema
from wgflow.trajectory.layout import Layout
from wgflow.trajectory.reader import opened
from wgflow.trajectory.rows import Rows
from wgflow.trajectory.writer import TrajectoryWriter, emptied


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
    """

    frames: int
    finished: bool
    damage: list[str]


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
        bad = [number for number in range(rows.count) if not rows.whole(number)]
        damage += [f"frame {number}" for number in bad]
        if not damage:  # never before: HDF5 may crash on a damaged file
            damage += _beside_the_schema(path, found)
        return Report(rows.count, rows.finished, damage)


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
        return Report(len(whole), rows.finished and len(whole) == rows.count, left_out)


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
        script = "import sys; from wgflow.trajectory import skeleton; print(skeleton.places_in(sys.argv[1]))"
        asked = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise error
        try:
            return layout.from_json(json.loads(asked.stdout), path.stat().st_size)
        except (ValueError, TypeError) as other:
            raise error from other


def _beside_the_schema(path: Path, found: Layout) -> list[str]:
    """What HDF5 sees otherwise than the block in front says, and links that lead elsewhere."""
    import h5py

    out = []
    with h5py.File(path, "r", locking=False) as file:

        def visit(name: str, link: object) -> None:
            if not isinstance(link, h5py.HardLink):
                out.append(f"{name}: expected data, got a {type(link).__name__}")

        file.visititems_links(visit)
        if out:
            return out
        for name, place in found.places.items():
            data = file.get(name)
            seen = (data.dtype, data.shape, data.id.get_offset() or 0) if isinstance(data, h5py.Dataset) else None
            if seen != (place.dtype, place.shape, place.offset):
                out.append(f"{name}: expected {place.dtype.str} {place.shape} at {place.offset}, got {seen} in HDF5")
        version = file["h5md/modules/wgflow"].attrs["version"].tolist()
        if version != list(schema.MODULE_VERSION):
            out.append(f"h5md/modules/wgflow: expected version {schema.MODULE_VERSION}, got {version}")
    return out
