"""Images to train on: CIFAR-10 and CIFAR-100 from their official binary files, and the digits scikit-learn ships.

Nothing is downloaded or unpickled; the contents of the files, and which are verified, are in
:mod:`wgflow.model.image_files`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import lzma
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.validate import whole
from wgflow.model import data_files, image_files
from wgflow.model.data_files import Digests
from wgflow.model.datasets import digits
from wgflow.model.image_files import LAYOUTS, PLANES, SIDE, Layout

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
        """The first ``train`` and ``test`` images, all where no number is given.

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
        """SHA-256 of pixels and labels, which identifies the data of a result."""
        out = hashlib.sha256()
        for array in (self.train, self.train_labels, self.test, self.test_labels):
            out.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
        return out.hexdigest()


def images(name: str, path: str | Path | None = None, verify: bool = True, known: Digests | None = None) -> Images:
    """Read a data set.

    Parameters
    ----------
    name : {"cifar10", "cifar100", "digit_images"}
        Which one.
    path : str or Path, optional
        For CIFAR: the archive of the binary version, a folder that holds it, or its unpacked files or their folder.
    verify : bool, optional
        Compare files with published digests; False admits a re-encoded copy, and :attr:`Images.verified` is then
        False.
    known : tuple of (str, str), optional
        Path and SHA-256 that each file must have, from :func:`wgflow.model.image_files.digests_of_files`; the data read
        are then kept for the next caller.

    Raises
    ------
    InputError
        If the files are missing, cut short, of the wrong size, have invalid labels, or are not the published or the
        known ones.
    """
    check_name("images", name, (*LAYOUTS, "digit_images"))
    if name == "digit_images":
        return digit_images()
    if path is None:
        raise InputError(f"path: expected where {name} lies, got none; {LAYOUTS[name].advice}")
    try:
        place = Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such home, too long, a NUL in it
        raise InputError(f"path: expected where {name} lies, got {str(path)!r} ({error})") from error
    return _read(name, place, verify, known) if known else _read.__wrapped__(name, place, verify, None)


def digit_images() -> Images:
    """Handwritten digits of Alpaydin and Kaynak (1998): 8 x 8, 10 classes, 1348 images to train on, 449 to test with.

    The split is a fixed shuffle. The images come with scikit-learn, without a download; grey values range from 0 to 16.

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


@functools.lru_cache(maxsize=2)  # members of a study ask for the same ones again and again
def _read(name: str, path: Path, verify: bool, known: Digests | None) -> Images:
    layout = LAYOUTS[name]
    place = image_files.find(path, layout)
    if place is None:
        raise InputError(f"{path}: expected {layout.archive} or its unpacked files, got neither; {layout.advice}")
    raw = _from_archive(place, layout, verify, known) if place.is_file() else _from_folder(place, layout, verify, known)
    train, test = (_decode(raw, files, layout, place) for files in (layout.train, layout.test))
    return Images(name, *train, *test, layout.classes, verify)


def _bytes(file: Path, layout: Layout, published: str | None, known: Digests | None) -> bytes:
    """Bytes of a file, compared with the MD5 digest published of it, if there is one, and with those known of it."""
    try:
        raw = data_files.read(file, known)
    except OSError as error:
        raise InputError(f"{file}: expected a readable data file ({error.strerror}); {layout.advice}") from error
    got = hashlib.md5(raw, usedforsecurity=False).hexdigest() if published else None
    if got != published:
        raise InputError(
            f"{file}: expected the published file, MD5 {published}, got another, MD5 {got}; {layout.advice}, or set "
            "verify = false for a re-encoded copy"
        )
    return raw


def _from_folder(folder: Path, layout: Layout, verify: bool, known: Digests | None) -> dict[str, bytes]:
    if verify and not layout.files_md5:
        raise InputError(
            f"{folder}: expected {layout.archive}, since no digests of the unpacked files are known, got these; give "
            "the archive, or set verify = false to take them unseen"
        )
    published = layout.files_md5 if verify else {}
    return {name: _bytes(folder / name, layout, published.get(name), known) for name in layout.files}


def _from_archive(archive: Path, layout: Layout, verify: bool, known: Digests | None) -> dict[str, bytes]:
    """Data files of an archive by their place in it; nothing is written to disk."""
    out, wanted = {}, {f"{layout.folder}/{name}": name for name in layout.files}
    raw = _bytes(archive, layout, layout.md5 if verify else None, known)
    try:
        with tarfile.open(fileobj=io.BytesIO(raw), mode="r:*") as tar:
            for member in tar:
                name = wanted.get(member.name.removeprefix("./"))
                opened = tar.extractfile(member) if name and member.isfile() else None
                if name and opened is not None:
                    out[name] = opened.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise InputError(
            f"{archive}: expected a whole archive, got a damaged one ({error}); {layout.advice}"
        ) from error
    missing = [name for name in layout.files if name not in out]
    if missing:
        raise InputError(f"{archive}: expected {layout.folder}/{missing[0]} in it, got none; {layout.advice}")
    return out


def _decode(raw: Mapping[str, bytes], files: Mapping[str, int], layout: Layout, place: Path) -> tuple[Bytes, Labels]:
    """Pixels (M, 3, 32, 32) and labels (M,) of some files."""
    pixels, labels = [], []
    for name, records in files.items():
        if len(raw[name]) != records * layout.record:
            raise InputError(
                f"{place / name}: expected {records * layout.record} bytes, {records} records of {layout.record}, got "
                f"{len(raw[name])}; {layout.advice}"
            )
        table = np.frombuffer(raw[name], np.uint8).reshape(records, layout.record)
        label = table[:, layout.labels - 1]
        wrong = np.flatnonzero(label >= layout.classes)
        if len(wrong):
            raise InputError(
                f"{place / name}: expected labels 0 to {layout.classes - 1}, got {label[wrong[0]]} in record "
                f"{wrong[0]}: the file is damaged; {layout.advice}"
            )
        labels.append(label)
        pixels.append(table[:, layout.labels :].reshape(-1, PLANES, SIDE, SIDE))
    out = np.concatenate(pixels), np.concatenate(labels).astype(np.int64)
    for array in out:
        array.flags.writeable = False  # one array serves every member of a study
    return out
