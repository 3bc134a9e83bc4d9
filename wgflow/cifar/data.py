"""Images to train on: CIFAR-10 and CIFAR-100 from their official binary files, and the digits scikit-learn ships.

Nothing is fetched and nothing unpickled; what files hold and which are verified is in :mod:`wgflow.cifar.layouts`.
"""

from __future__ import annotations

import functools
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wgflow import rng
from wgflow.cifar.layouts import LAYOUTS, PAGE, PLANES, SIDE, Layout
from wgflow.errors import InputError, unknown
from wgflow.problems.datasets import digits
from wgflow.types import whole

Bytes: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.int64]


class Images(NamedTuple):
    """Images to train on and to test with.

    Attributes
    ----------
    name : str
        Their data set.
    train, test : ndarray of uint8 (M, C, H, W)
        Pixels.
    train_labels, test_labels : ndarray of int64 (M,)
        Classes, 0 to K - 1.
    classes : int
        K.
    verified : bool
        Whether the files are the published ones, by their digests.
    white : int
        Pixel value of full brightness.
    """

    name: str
    train: Bytes
    train_labels: Labels
    test: Bytes
    test_labels: Labels
    classes: int
    verified: bool
    white: int = 255

    def first(self, train: int | None = None, test: int | None = None) -> Images:
        """The first so many of each, all if none is given.

        Raises
        ------
        InputError
            If there are fewer.
        """
        for key, wanted, there in (("train", train, len(self.train)), ("test", test, len(self.test))):
            if wanted is not None and whole(key, wanted) > there:
                raise InputError(f"{key}: expected at most the {there} images of {self.name}, got {wanted}")
        return self._replace(
            train=self.train[:train],
            train_labels=self.train_labels[:train],
            test=self.test[:test],
            test_labels=self.test_labels[:test],
        )

    def digest(self) -> str:
        """SHA-256 of pixels and labels, by which a result says what it was trained on."""
        out = hashlib.sha256()
        for each in (self.train, self.train_labels, self.test, self.test_labels):
            out.update(f"{each.shape}{each.dtype}".encode() + np.ascontiguousarray(each).tobytes())
        return out.hexdigest()


def images(name: str, path: str | Path | None = None, verify: bool = True) -> Images:
    """Read a data set.

    Parameters
    ----------
    name : {"cifar10", "cifar100", "digit_images"}
        Which one.
    path : str or Path, optional
        For CIFAR: the archive of the binary version, a folder that holds it, or its unpacked files or their folder.
    verify : bool, optional
        Hold what is read against published digests; False admits a re-encoded copy, and :attr:`Images.verified` says
        so.

    Raises
    ------
    InputError
        If the files are missing, cut short, of the wrong size, hold labels that are none, or are not the published
        ones.
    """
    if name == "digit_images":
        return digit_images()
    if name not in LAYOUTS:
        raise unknown("images", name, (*LAYOUTS, "digit_images"))
    if path is None:
        raise InputError(f"path: expected where {name} lies, got none; {_advice(LAYOUTS[name])}")
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such home, too long, a NUL in it
        raise InputError(f"path: expected where {name} lies, got {str(path)!r} ({error})") from error
    return _read(name, place, verify)


def digit_images() -> Images:
    """Handwritten digits of Alpaydin and Kaynak (1998): 8 x 8, 10 classes, 1348 images to train on, 449 to test with.

    Which are which is a fixed shuffle. They come inside scikit-learn, so they are there offline, and grey values go
    from 0 to 16.

    Raises
    ------
    InputError
        If scikit-learn is not installed.
    """
    x, y = digits()
    order = rng.permutation(0, "digit images", len(x))
    pixels, labels = x.reshape(-1, 1, 8, 8)[order].astype(np.uint8), y.argmax(axis=1)[order]
    cut = len(x) - round(len(x) / 4)
    return Images("digit_images", pixels[:cut], labels[:cut], pixels[cut:], labels[cut:], 10, True, white=16)


def digest_of_files(path: str | Path) -> str:
    """SHA-256 of the data files at a path, whichever data sets they are of.

    Raises
    ------
    InputError
        If there is none.
    """
    path, out, found = Path(path), hashlib.sha256(), False
    for layout in LAYOUTS.values():
        place = _place(path, layout)
        for file in [] if place is None else [place] if place.is_file() else [place / each for each in _names(layout)]:
            found = True
            out.update(f"{file.name}:{_file_digest(file, 'sha256')}\n".encode())
    if not found:
        raise InputError(f"{path}: expected data files of CIFAR, got none there; {_advice(LAYOUTS['cifar10'])}")
    return out.hexdigest()


@functools.lru_cache(maxsize=2)  # members of a study ask for the same ones again and again
def _read(name: str, path: Path, verify: bool) -> Images:
    layout = LAYOUTS[name]
    place = _place(path, layout)
    if place is None:
        raise InputError(f"{path}: expected {layout.archive} or its unpacked files, got neither; {_advice(layout)}")
    if verify:
        _verify(place, layout)
    raw = _from_archive(place, layout) if place.is_file() else _from_folder(place, layout)
    train, test = (_decode(raw, files, layout, place) for files in (layout.train, layout.test))
    return Images(name, *train, *test, layout.classes, verify)


def _place(path: Path, layout: Layout) -> Path | None:
    """Archive or folder of files at a path, the archive first, since it can be verified."""
    if path.is_file():
        return path
    for each in (path / layout.archive, path.parent / layout.archive if path.name == layout.folder else None):
        if each is not None and each.is_file():
            return each
    for folder in (path, path / layout.folder):
        if any((folder / each).is_file() for each in _names(layout)):
            return folder
    return None


def _names(layout: Layout) -> list[str]:
    return [*layout.train, *layout.test]


def _advice(layout: Layout) -> str:
    return f"get {layout.archive} from {PAGE} and give its path"


def _verify(place: Path, layout: Layout) -> None:
    if place.is_file():
        wanted = {place: layout.md5}
    elif layout.files_md5:
        wanted = {place / name: digest for name, digest in layout.files_md5.items()}
    else:
        raise InputError(
            f"{place}: expected {layout.archive}, since no digests of the unpacked files are known, got these; give "
            "the archive, or set verify = false to take them unseen"
        )
    for file, digest in wanted.items():
        got = _file_digest(file, "md5")
        if got != digest:
            raise InputError(
                f"{file}: expected the published file, MD5 {digest}, got another, MD5 {got}; {_advice(layout)}, or set "
                "verify = false for a re-encoded copy"
            )


def _file_digest(file: Path, algorithm: str) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise InputError(f"{file}: expected a readable data file ({error.strerror})") from error


def _from_folder(folder: Path, layout: Layout) -> dict[str, bytes]:
    out = {}
    for name in _names(layout):
        try:
            out[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{folder / name}: expected a readable data file ({error.strerror}); {_advice(layout)}"
            ) from error
    return out


def _from_archive(archive: Path, layout: Layout) -> dict[str, bytes]:
    """Data files of an archive by their place in it; nothing is written to disk."""
    out, wanted = {}, {f"{layout.folder}/{name}": name for name in _names(layout)}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                name = wanted.get(member.name.removeprefix("./"))
                opened = tar.extractfile(member) if name and member.isfile() else None
                if name and opened is not None:
                    out[name] = opened.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise InputError(
            f"{archive}: expected a whole archive, got a damaged one ({error}); {_advice(layout)}"
        ) from error
    missing = [name for name in _names(layout) if name not in out]
    if missing:
        raise InputError(f"{archive}: expected {layout.folder}/{missing[0]} in it, got none; {_advice(layout)}")
    return out


def _decode(raw: Mapping[str, bytes], files: Mapping[str, int], layout: Layout, place: Path) -> tuple[Bytes, Labels]:
    """Pixels (M, 3, 32, 32) and labels (M,) of some files."""
    pixels, labels = [], []
    for name, records in files.items():
        if len(raw[name]) != records * layout.record:
            raise InputError(
                f"{place / name}: expected {records * layout.record} bytes, {records} records of {layout.record}, got "
                f"{len(raw[name])}; {_advice(layout)}"
            )
        table = np.frombuffer(raw[name], np.uint8).reshape(records, layout.record)
        label = table[:, layout.labels - 1]
        wrong = np.flatnonzero(label >= layout.classes)
        if len(wrong):
            raise InputError(
                f"{place / name}: expected labels 0 to {layout.classes - 1}, got {label[wrong[0]]} in record "
                f"{wrong[0]}: the file is damaged; {_advice(layout)}"
            )
        labels.append(label)
        pixels.append(table[:, layout.labels :].reshape(-1, PLANES, SIDE, SIDE))
    out = np.concatenate(pixels), np.concatenate(labels).astype(np.int64)
    for each in out:
        each.flags.writeable = False  # one array serves every member of a study
    return out
