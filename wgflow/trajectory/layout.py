"""Layout of a trajectory file: places of its datasets, and the seal that is checked before anything else is read.

The block in front of HDF5's own bytes holds, as text::

    wgflow trajectory, H5MD 1.1
    <SHA-256 of the rest of this block and of every byte outside the frames>  <bytes of this block>
    {"version": [2, 2], "size": <bytes of the file>, "places": [[path, type, shape, offset, SHA-256], ...]}

All datasets are contiguous, so that reading and adding frames needs only these offsets. HDF5 makes the file and is not
used afterwards: the metadata of a running file never change, those of a damaged or hostile file are never parsed.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import itertools
import json
import math
import operator
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import TrajectoryError
from wgflow.base.types import Spec
from wgflow.trajectory import schema
from wgflow.trajectory.file_io import read_at

LEAST_BLOCK, _MOST_BLOCK = 4096, 2**20
_MOST_STATIC = 2**30  # bytes outside the frames: they are read and hashed when a file is opened
_MOST_WIDTH = 2**23  # numbers of one particle
_MOST_DOCUMENT = 16 * 2**20
_PIECE = 2**20
_HEX = 64
_MARK = "0"  # in place of a digest
_DIGEST, _NO_DIGEST = re.compile(rb',"([0-9a-f]{64})"\]'), f',"{_MARK}"]'.encode()
SEALED = len(schema.MAGIC) + _HEX  # bytes at the front that identify a file


class Place(NamedTuple):
    """Type, shape and first byte of a dataset in the file, and the digest of its bytes, "" if frames fill it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    sha256: str = ""

    @property
    def size(self) -> int:
        """Bytes of the dataset."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def stride(self) -> int:
        """Bytes of one frame."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def rows(self, start: int, stop: int) -> Place:
        """Part of the dataset: rows start..stop-1."""
        return self._replace(shape=(stop - start, *self.shape[1:]), offset=self.offset + start * self.stride)

    def row(self, number: int) -> Place:
        """Part of the dataset: one row, such as that of a frame."""
        return self._replace(shape=self.shape[1:], offset=self.offset + number * self.stride)

    def read(self, file: io.FileIO) -> NDArray[Any]:
        """Read all of it; raises OSError if that fails."""
        return np.frombuffer(read_at(file, self.offset, self.size), self.dtype).reshape(self.shape)


class Layout:
    """Places of all datasets of a file.

    Attributes
    ----------
    places : dict of str to Place
        Datasets by path.
    version : tuple of int
        Version of the format.
    observables, callers : dict of str to tuple of int, tuple of str
        Shapes of observables at one frame, by name, () for a number; and the names of those that are the caller's.
    balanced : bool
        Whether frames have a balance of energy, which is then one of ``observables``.
    frames, particles, width : int
        Frames that fit, N (0 for a file without particles), and P + 1.
    elements : tuple of Element
        Elements that frames fill.
    digests : Digests
        The digests of its frames.
    outside : list of (int, int)
        Intervals of bytes that frames do not fill.

    Raises
    ------
    ValueError
        If the places contradict each other or the schema.
    """

    def __init__(
        self, places: Mapping[str, Place], size: int, start: int, version: tuple[int, int] = schema.MODULE_VERSION
    ) -> None:
        self.version, self.places = version, dict(places)
        _require(schema.POSITION in places and len(places[schema.POSITION].shape) == 3, "no positions")
        self.frames, self.particles, self.width = places[schema.POSITION].shape
        _require(min(self.frames, self.width) >= 1, "an empty shape")
        _require(self.width <= _MOST_WIDTH, "particles of more than 64 MiB")
        _require(self.frames <= schema.MOST_FRAMES, f"more than {schema.MOST_FRAMES} frames")
        own = {path.split("/")[1]: place.shape[1:] for path, place in places.items() if path.startswith("observables/")}
        self.observables = {name: own[name] for name in sorted(set(own) - set(schema.OWN_OBSERVABLES))}
        for shape in self.observables.values():
            _require(0 < math.prod(shape) <= schema.MOST_ENTRIES, "an observable that is empty or of more than 64 MiB")
        self.balanced = self.observables.get(schema.BALANCE) == schema.BALANCE_SHAPE
        self.callers = tuple(name for name in self.observables if name != schema.BALANCE or not self.balanced)
        self.elements = schema.elements(self.observables)
        self.digests = schema.Digests(self.observables, self.particles, self.width)
        self._check()
        ends = sorted((place.offset, place.offset + place.size) for place in self.places.values() if place.size)
        _require(ends[0][0] >= start and ends[-1][1] <= size, "datasets beyond the ends of the file")
        for (_, end), (begin, _) in itertools.pairwise(ends):
            _require(end <= begin, "datasets that overlap")
        filled = sorted((self.places[element.path] for element in self.elements), key=operator.attrgetter("offset"))
        edges = [start, *(edge for place in filled for edge in (place.offset, place.offset + place.size)), size]
        self.outside = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        _require(sum(b - a for a, b in self.outside) <= _MOST_STATIC, "too much data besides the frames")

    def _check(self) -> None:
        """Check the places against the schema; later versions of the format may have more constant datasets."""
        lengths = schema.lengths(self.frames, self.particles, self.width, self.observables)
        for element in self.elements:
            shape = tuple(lengths[letter] for letter in element.shape)
            _require(element.path in self.places, f"{element.path} is missing")
            place = self.places[element.path]
            _require(
                place.shape == shape and place.dtype.str == element.dtype,
                f"{element.path}: expected {element.dtype} {shape}, got {place.dtype.str} {place.shape}",
            )
        for element in schema.STATIC:
            if element.path in self.places:
                place = self.places[element.path]
                kind = "|S" if element.dtype == "S" else element.dtype
                fits = len(place.shape) == len(element.shape) and place.dtype.str.startswith(kind)
                _require(fits, f"{element.path}: expected {element.dtype}, got {place.dtype.str} {place.shape}")

    def with_digests(self, digests: Sequence[str]) -> Layout:
        """Layout of a file that is alike, with its digests in the order of the places marked."""
        out, following = copy.copy(self), iter(digests)
        out.places = {
            path: place._replace(sha256=next(following, _MARK)) if place.sha256 == _MARK else place
            for path, place in self.places.items()
        }
        _require(next(following, None) is None, "a dataset that is listed twice")
        return out

    def document(self, file: io.FileIO, name: str) -> Spec:
        """Parse a document stored with a run.

        Raises
        ------
        KeyError
            If the file has no document of that name.
        TrajectoryError
            If it is not JSON.
        """
        path = f"parameters/{name}"
        try:
            content: Spec = json.loads(bytes(self.places[path].read(file)[()]))
        except (ValueError, RecursionError) as error:
            raise TrajectoryError(f"{file.name}: damaged, {path} is not JSON ({error})") from error
        if not isinstance(content, dict):
            raise TrajectoryError(f"{file.name}: damaged, {path}: expected a table, got {type(content).__name__}")
        return content


def opened(path: Path, mode: str = "rb") -> io.FileIO:
    """Open a file unbuffered; raises TrajectoryError if there is none."""
    if not path.is_file():
        shown = str(path) if str(path).isprintable() else repr(str(path))
        if path.is_dir():
            raise TrajectoryError(f"{shown}: expected a trajectory file, got a folder; run the study first")
        raise TrajectoryError(f"{shown}: file not found; expected a trajectory file, run the study first")
    return io.FileIO(os.fspath(path), mode)


def read(file: io.FileIO, sealed: bool = True) -> Layout:
    """Read the layout of a file, after checking that the file is unchanged outside its frames.

    Parameters
    ----------
    file : FileIO
        The file.
    sealed : bool, optional
        Whether to check the seal; otherwise the block in front is only checked for consistency.

    Raises
    ------
    TrajectoryError
        If the file is not a trajectory, damaged or of another version.
    """
    path, size = file.name, os.fstat(file.fileno()).st_size
    if not size:
        raise TrajectoryError(f"{path}: expected a wgflow trajectory, got an empty file")
    front = read_at(file, 0, min(size, LEAST_BLOCK))
    if not front.startswith(schema.MAGIC):
        raise TrajectoryError(f"{path}: expected a wgflow trajectory, got a file without its mark")
    try:
        seal, _, start = front[len(schema.MAGIC) :].split(b"\n", 1)[0].decode("ascii").partition(" ")
        length = int(start)
        _require(LEAST_BLOCK <= length <= min(_MOST_BLOCK, size), "no length of the block in front")
        block = read_at(file, 0, length)
        layout = _parsed(bytes(block[len(schema.MAGIC) + _HEX + 1 :]).split(b"\n", 1)[1], size, length)
        _require(not sealed or _sum(file, block, layout) == seal, "data outside the frames have changed")
    except TrajectoryError:
        raise
    except _AnotherVersionError as error:
        raise TrajectoryError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise TrajectoryError(
            f"{path}: damaged or made before format version {schema.MODULE_VERSION[0]} "
            f"({' '.join(str(error).split()) or type(error).__name__}); "
            "wgflow repair FILE copies the undamaged frames"
        ) from error
    return layout


class _AnotherVersionError(Exception):
    """A file of another major version of the format."""


def _parsed(text: bytes, size: int, start: int) -> Layout:
    """Layout of a file of some bytes from the text in front; :func:`_structure` knows it from files that are alike."""
    digests = [found.decode("ascii") for found in _DIGEST.findall(text)]
    return _structure(_DIGEST.sub(_NO_DIGEST, text.strip()), size, start).with_digests(digests)


@functools.lru_cache(maxsize=64)  # the files of a study differ in digests alone
def _structure(text: bytes, size: int, start: int) -> Layout:
    """Layout of a file from the text in front, digests marked."""
    content = json.loads(text.decode("ascii"))
    version = [int(part) for part in content["version"]]
    if version[0] != schema.MODULE_VERSION[0]:
        raise _AnotherVersionError(
            f"expected format version {schema.MODULE_VERSION[0]}.x, got {version[0]}.{version[-1]}; "
            "use the wgflow that wrote it"
        )
    _require(content["size"] == size, f"expected {content['size']} bytes, got {size}")
    return from_json(content["places"], size, start, (version[0], version[1]))


def from_json(listed: list[Any], size: int, start: int = 0, version: tuple[int, int] = schema.MODULE_VERSION) -> Layout:
    """Layout of a file from the list of its datasets; raises ValueError as :class:`Layout` does."""
    return Layout({path: _place(*entries) for path, *entries in listed}, size, start, version)


def seal(file: BinaryIO, places: Mapping[str, Place], size: int, start: int) -> None:
    """Write the block in front of a file that is otherwise complete.

    Parameters
    ----------
    file, places : BinaryIO, mapping of str to Place
        The file, open for writing, and its datasets.
    size, start : int
        Sizes of the file and of the block, in bytes.
    """
    listed = [[path, place.dtype.str, place.shape, place.offset, place.sha256] for path, place in places.items()]
    text = json.dumps({"version": schema.MODULE_VERSION, "size": size, "places": listed}, separators=(",", ":"))
    written = f"{text}\n".encode("ascii")
    block = (schema.MAGIC + b"0" * _HEX + f" {start}\n".encode("ascii") + written).ljust(start, b" ")
    _require(len(block) == start, "names too long for the block in front")
    file.seek(0)
    file.write(block)
    file.flush()
    with open(file.name, "rb", buffering=0) as raw:
        seal = _sum(raw, block, _parsed(written, size, start))
    file.seek(len(schema.MAGIC))
    file.write(seal.encode("ascii"))
    file.flush()


def _sum(file: io.FileIO, block: bytes | bytearray, layout: Layout) -> str:
    """SHA-256 of the block in front, except the digest itself, and of every byte outside the frames."""
    digest = hashlib.sha256(block[len(schema.MAGIC) + _HEX :])
    for begin, stop in layout.outside:
        for at in range(begin, stop, _PIECE):
            digest.update(read_at(file, at, min(_PIECE, stop - at)))
    return digest.hexdigest()


def _place(dtype: str, shape: list[int], offset: int, sha256: str) -> Place:
    """Location of a dataset in the file, read from its entry in the JSON header."""
    text = re.fullmatch(r"\|S[1-9][0-9]{0,11}", dtype)
    _require(dtype in ("<f8", "<i8", "<u4", "|u1") or (text is not None and not shape), f"type {dtype!r}")
    numbers = [*shape, offset]
    _require(all(type(n) is int and 0 <= n < 2**62 for n in numbers) and len(shape) <= 3, f"numbers {numbers}")
    place = Place(np.dtype(dtype), tuple(shape), offset, str(sha256))
    _require(text is None or place.size <= _MOST_DOCUMENT, "a document that is too long")
    return place


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
