"""Making a trajectory file without frames: from the system that is run, or with the contents of another file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, TrajectoryError, describe
from wgflow.base.types import Array, Spec
from wgflow.base.validate import whole
from wgflow.trajectory import h5md, layout, schema
from wgflow.trajectory.frames import Frames
from wgflow.trajectory.layout import Layout

_FIRST_CAPACITY = 2**20  # frames, at most; a file with more grows


class Data(Protocol):
    """Constant arrays of a problem, and its sizes."""

    def arrays(self) -> dict[str, Array]:
        """Arrays by name."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Samples, state width, outputs, and parameters of one particle."""


class Recordable(Protocol):
    """What a trajectory stores of the system that is run, such as :class:`wgflow.Energy`."""

    @property
    def problem(self) -> Data:
        """Its data."""

    def spec(self) -> Spec:
        """Plain JSON that describes it."""


def create(
    path: Path,
    system: Recordable,
    particles: int,
    documents: Mapping[str, Spec | None],
    heldout: Data | None,
    shapes: Mapping[str, tuple[int, ...]],
    capacity: int,
) -> None:
    """Make the file of a new run; see :meth:`wgflow.trajectory.TrajectoryWriter.create`."""
    contents = {"energy": system.spec(), **documents}
    texts = {name: json.dumps(content or {}, sort_keys=True) for name, content in contents.items()}
    arrays: dict[str, NDArray[Any]]
    arrays = {f"parameters/{name}": np.array(text.encode("ascii")) for name, text in texts.items()}
    arrays |= _stored("data", system.problem.arrays())
    if heldout is not None:
        arrays |= _stored("heldout", {name: heldout.arrays()[name] for name in ("x", "y")})
    h5md.create(
        path,
        frames=min(capacity, _FIRST_CAPACITY),
        particles=particles,
        width=system.problem.shape[3] + 1,
        observables={**shapes, schema.BALANCE: schema.BALANCE_SHAPE},
        arrays=arrays,
    )


def observable_shapes(observables: Sequence[str] | Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the caller's observables by name, () for a number; raises InputError for a wrong name or shape."""
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
    return shapes


def create_like(frames: Frames, path: Path, capacity: int, without: Collection[str] = ()) -> Layout:
    """Make a file with the documents and arrays of another one, room for another number of frames, and no frame.

    Documents in ``without`` are left empty, arrays are left out. Raises TrajectoryError if what is to be copied has
    changed since the other file was sealed.
    """
    source = frames.layout
    wanted = {element.path for element in schema.STATIC} - {f"{schema.GROUP}/id", *without}
    static = {name: frames.array(name) for name in source.places if name in wanted}
    for name, values in static.items():
        if hashlib.sha256(values.tobytes()).hexdigest() != source.places[name].sha256:
            raise TrajectoryError(f"{frames.path}: damaged, {name} has changed since the file was sealed")
    empty = {f"parameters/{name}": np.array(b"{}") for name in schema.DOCUMENTS}
    h5md.create(
        path,
        frames=capacity,
        particles=source.particles,
        width=source.width,
        observables=source.observables,
        arrays=empty | static,
    )
    with open(path, "rb", buffering=0) as file:
        return layout.read(file)


def _stored(group: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays to store, by path; samples that are too large are left out."""
    inline = sum(array.nbytes for array in arrays.values()) <= schema.INLINE
    return {f"parameters/{group}/{name}": a for name, a in arrays.items() if inline or name in ("embed", "readout")}
