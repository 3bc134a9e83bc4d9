"""New trajectory files through HDF5: valid H5MD with named dimensions, made in memory and written once.

HDF5 never writes to the disk, so a full disk is an ordinary error; pages of future frames take no memory.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5ds, h5p, h5s, h5t
from numpy.typing import NDArray

import wgflow
from wgflow.trajectory import layout, schema
from wgflow.trajectory.layout import Place

_PAGE = 2**16
_SMALL = 2**20  # bytes of constants up to which the structure of a file is kept for the next one


def create(
    path: Path,
    *,
    frames: int,
    particles: int,
    width: int,
    observables: Mapping[str, tuple[int, ...]],
    arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Make a sealed file without frames.

    Parameters
    ----------
    path : Path
        The file, overwritten if it exists.
    frames, particles, width : int
        Frames to make room for, N (0 for no particles), and P + 1.
    observables : mapping of str to tuple of int
        Shapes of the caller's observables at one frame, () for a number.
    arrays : mapping of str to ndarray
        Documents and constant arrays, by path.
    """
    constants = {f"{schema.GROUP}/id": np.arange(particles), **arrays}
    small = sum(values.nbytes for values in constants.values()) <= _SMALL
    make = _blank if small else _blank.__wrapped__
    kinds = tuple((name, values.dtype.str, values.shape) for name, values in constants.items())
    blank = make(frames, particles, width, tuple(observables.items()), kinds)
    places = dict(blank.places)
    with path.open("wb") as out:
        blank.image.write_to(out)
        for name, values in constants.items():
            content = values.tobytes()
            places[name] = places[name]._replace(sha256=hashlib.sha256(content).hexdigest())
            if content:
                out.seek(places[name].offset)
                out.write(content)
        layout.seal(out, places, blank.image.length, blank.start)


class _Blank(NamedTuple):
    """A file whose constants are zeros: its bytes, its places without digests, and the size of the block in front."""

    image: Image
    places: Mapping[str, Place]
    start: int


@functools.lru_cache(maxsize=16)  # the files of a study are alike but for their constants and the length of a document
def _blank(
    frames: int,
    particles: int,
    width: int,
    observables: tuple[tuple[str, tuple[int, ...]], ...],
    kinds: tuple[tuple[str, str, tuple[int, ...]], ...],
) -> _Blank:
    """File for constants of these paths, types and shapes; its structure does not depend on their values."""
    constants = {path: np.zeros(shape, dtype) for path, dtype, shape in kinds}
    filled = schema.elements(dict(observables))
    letters = {element.path: element.shape for element in (*filled, *schema.STATIC)}
    lengths = schema.lengths(frames, particles, width, dict(observables))
    shapes = {element.path: tuple(lengths[letter] for letter in element.shape) for element in filled}
    lengths |= {letter: n for path, a in constants.items() for letter, n in zip(letters[path], a.shape, strict=True)}
    longest = 1000 + sum(len(json.dumps(path)) + 160 for path in letters)
    start = max(layout.LEAST_BLOCK, 1 << longest.bit_length())
    image = Image()
    with h5py.File(image, "w", userblock_size=start) as file:
        preamble(file, width)
        datasets = {
            element.path: _allocate(file, element.path, shapes[element.path], element.dtype) for element in filled
        }
        datasets |= {path: file.create_dataset(path, data=values) for path, values in constants.items()}
        for group in (file[f"{schema.GROUP}/mass"], *file["observables"].values()):
            group["step"], group["time"] = datasets[schema.STEP], datasets[schema.TIME]
        _name_dimensions(file, datasets, letters, lengths)
        places = {name: Place(data.dtype, data.shape, data.id.get_offset() or 0) for name, data in datasets.items()}
    return _Blank(image, places, start)


def places_in(path: str) -> str:
    """Places of a file's datasets according to HDF5, without digests, as JSON."""
    listed = []
    with h5py.File(path, "r", locking=False) as file:
        if file["h5md/modules/wgflow"].attrs["version"].tolist()[0] != schema.MODULE_VERSION[0]:
            raise ValueError("another version than in front")
        known = [element.path for element in (*schema.FRAMES, *schema.COMMIT, *schema.STATIC)]
        own = [f"observables/{name}/value" for name in file["observables"]]
        for name in dict.fromkeys([*known, *own]):
            if name in file:
                data = file[name]
                listed.append([name, data.dtype.str, data.shape, data.id.get_offset() or 0, ""])
    return json.dumps(listed)


def links_in(path: str) -> str:
    """Soft and external links of a file, with their kind, as JSON."""
    links: list[tuple[str, str]] = []

    def visit(name: str, link: object) -> None:
        if not isinstance(link, h5py.HardLink):
            links.append((name, type(link).__name__))

    with h5py.File(path, "r", locking=False) as file:
        file.visititems_links(visit)
    return json.dumps(links)


class Image(io.RawIOBase):
    """Sparse binary file in memory for HDF5 to write to: only pages that were written take memory."""

    def __init__(self) -> None:
        self.length, self._at = 0, 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position."""
        self._at = offset + {0: 0, 1: self._at, 2: self.length}[whence]
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        self.length = self._at if size is None else size
        return self.length

    def write(self, data: Any) -> int:
        """Write at the position."""
        view = memoryview(data).cast("B")
        for page, within, begin, end in self._pieces(len(view)):
            self._pages.setdefault(page, bytearray(_PAGE))[within : within + end - begin] = view[begin:end]
        self._at += len(view)
        self.length = max(self.length, self._at)
        return len(view)

    def readinto(self, out: Any) -> int:
        """Read from the position, zeros where nothing was written."""
        view = memoryview(out).cast("B")
        for page, within, begin, end in self._pieces(len(view)):
            view[begin:end] = self._pages.get(page, bytes(_PAGE))[within : within + end - begin]
        self._at += len(view)
        return len(view)

    def write_to(self, file: BinaryIO) -> None:
        """Copy to a file on disk, with holes for pages that were never written."""
        file.truncate(self.length)
        for page, data in self._pages.items():
            file.seek(page * _PAGE)
            file.write(data[: self.length - page * _PAGE])

    def _pieces(self, size: int) -> Iterator[tuple[int, int, int, int]]:
        begin = 0
        while begin < size:
            page, within = divmod(self._at + begin, _PAGE)
            end = min(size, begin + _PAGE - within)
            yield page, within, begin, end
            begin = end


def preamble(file: Any, width: int) -> None:
    """Write the common part of an H5MD file: version, creator, module, and an unbounded box of that width."""
    file.create_group("h5md").attrs["version"] = np.array(schema.H5MD_VERSION, np.int32)
    file.create_group("h5md/author").attrs["name"] = np.bytes_("unknown")
    creator = file.create_group("h5md/creator")
    creator.attrs["name"] = np.bytes_("wgflow")
    creator.attrs["version"] = np.bytes_(wgflow.__version__)
    file.create_group("h5md/modules/wgflow").attrs["version"] = np.array(schema.MODULE_VERSION, np.int32)
    box = file.create_group(f"{schema.GROUP}/box")
    box.attrs["dimension"] = width
    box.attrs["boundary"] = np.array([b"none"] * width)


def _allocate(file: Any, path: str, shape: tuple[int, ...], dtype: str) -> h5py.Dataset:
    """Contiguous dataset, allocated in the file but not written."""
    parent, name = path.rsplit("/", 1)
    options = h5p.create(h5p.DATASET_CREATE)
    options.set_layout(h5d.CONTIGUOUS)
    options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5d.FILL_TIME_NEVER)
    options.set_obj_track_times(False)  # equal runs have equal bytes
    kind, space = h5t.py_create(np.dtype(dtype), logical=True), h5s.create_simple(shape)
    return h5py.Dataset(h5d.create(file.require_group(parent).id, name.encode(), kind, space, options))


def _name_dimensions(
    file: Any, datasets: Mapping[str, h5py.Dataset], letters: Mapping[str, tuple[str, ...]], lengths: Mapping[str, int]
) -> None:
    """Add empty dimension scales at the root, so that NetCDF readers know the name of every axis."""
    scales = {}
    for letter, name in {**schema.DIMENSIONS, **{own: own for own in lengths if own not in schema.DIMENSIONS}}.items():
        if letter in lengths:
            scales[letter] = file.create_dataset(name, (lengths[letter],), np.int64)
            scales[letter].make_scale(
                "This is a netCDF dimension but not a netCDF variable." + f"{lengths[letter]:10d}"
            )
    for path, data in datasets.items():
        for axis, letter in enumerate(letters[path]):
            h5ds.attach_scale(data.id, scales[letter].id, axis)
