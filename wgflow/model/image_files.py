"""How the binary versions of CIFAR-10 and CIFAR-100 lie on disk, and by which digests their files are known.

A record of the binary version (Krizhevsky 2009, and the data set's page) is one label byte, two in CIFAR-100 (coarse,
then fine), and 3072 bytes of pixels: the red plane, the green, the blue, each 32 x 32 row by row.

What is verified: the two archives have MD5 digests on their author's page. Files that were unpacked have none there;
those of CIFAR-10 are compared with digests that two unrelated public projects agree on, those of CIFAR-100 cannot be
verified, so the archive is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from wgflow.base.errors import InputError
from wgflow.model import data_files
from wgflow.model.data_files import Digests

PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
SIDE, PLANES, RECORDS = 32, 3, 10_000


class Layout(NamedTuple):
    """How a data set lies on disk.

    Attributes
    ----------
    archive, md5 : str
        Name of the archive and its digest on the author's page.
    folder : str
        Folder inside it.
    train, test : mapping of str to int
        Files and their records.
    labels : int
        Label bytes before the pixels; the last of them is the class.
    classes : int
        K.
    files_md5 : mapping of str to str
        Digests of the unpacked files as recorded by others, none if there are no two that agree.
    """

    archive: str
    md5: str
    folder: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    labels: int
    classes: int
    files_md5: Mapping[str, str] = MappingProxyType({})

    @property
    def record(self) -> int:
        """Bytes of one image with its labels."""
        return self.labels + PLANES * SIDE * SIDE

    @property
    def files(self) -> list[str]:
        """Names of all files."""
        return [*self.train, *self.test]

    @property
    def advice(self) -> str:
        """How to get the data set, for messages."""
        return f"get {self.archive} from {PAGE} and give its path"


_BATCHES = [f"data_batch_{k}.bin" for k in range(1, 6)]
LAYOUTS: dict[str, Layout] = {
    "cifar10": Layout(
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train=dict.fromkeys(_BATCHES, RECORDS),
        test={"test_batch.bin": RECORDS},
        labels=1,
        classes=10,
        files_md5={
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
    ),
    "cifar100": Layout(
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train={"train.bin": 5 * RECORDS},
        test={"test.bin": RECORDS},
        labels=2,
        classes=100,
    ),
}


def find(path: Path, layout: Layout) -> Path | None:
    """Archive or folder of files at a path, the archive first, since it can be verified."""
    if path.is_file():
        return path
    for archive in (path / layout.archive, path.parent / layout.archive if path.name == layout.folder else None):
        if archive is not None and archive.is_file():
            return archive
    for folder in (path, path / layout.folder):
        if any((folder / name).is_file() for name in layout.files):
            return folder
    return None


def digests_of_files(path: str | Path) -> Digests:
    """Data files at a path, whichever data sets they are of, and the SHA-256 of each.

    Raises
    ------
    InputError
        If there is none, or one cannot be read.
    """
    path, files = Path(path), []
    for layout in LAYOUTS.values():
        place = find(path, layout)
        if place is not None:
            files += [place] if place.is_file() else [place / name for name in layout.files]
    if not files:
        raise InputError(f"{path}: expected data files of CIFAR, got none there; {LAYOUTS['cifar10'].advice}")
    digests = {file: data_files.digest(file) for file in set(files)}  # an archive stands for either data set
    return tuple((str(file), digests[file]) for file in files)
