"""Readers of CIFAR's binary files: what they decode, and that nothing damaged or foreign goes unnoticed."""

import gzip
import hashlib
import io
import lzma
import tarfile

import numpy as np
import pytest

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.model import image_files
from wgflow.systems.images import data
from wgflow.systems.images.augment import draws

RECORDS = 3  # of a file here, in place of 10,000


@pytest.fixture
def small(monkeypatch):
    """The layouts with few records, and digests of files made here."""
    for name, layout in data.LAYOUTS.items():
        few = layout._replace(
            train=dict.fromkeys(layout.train, RECORDS), test=dict.fromkeys(layout.test, RECORDS), files_md5={}
        )
        monkeypatch.setitem(data.LAYOUTS, name, few)
    yield
    data._read.cache_clear()


def write(folder, name, seed=0):
    """Files of random records; (labels, pixels) of all of them by file, kept apart from the bytes."""
    layout, made, rng = data.LAYOUTS[name], {}, np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (*layout.train, *layout.test):
        labels = rng.integers(layout.classes, size=RECORDS)
        pixels = rng.integers(256, size=(RECORDS, 3, 32, 32))
        with (folder / file).open("wb") as out:
            for label, image in zip(labels, pixels, strict=True):
                coarse = [7] if layout.labels == 2 else []
                out.write(bytes([*coarse, label]))
                for plane in image:  # one byte after the other, by the page's words
                    for row in plane:
                        out.write(bytes(row.tolist()))
        made[file] = labels, pixels
    return made


def pack(folder, archive, inside):
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, f"{inside}/{file.name}")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.usefixtures("small")
def test_records_are_decoded_as_the_page_says(tmp_path, name):
    made = write(tmp_path, name)
    found = data.images(name, tmp_path, verify=False)
    layout = data.LAYOUTS[name]
    for files, pixels, labels in (
        (layout.train, found.train, found.train_labels),
        (layout.test, found.test, found.test_labels),
    ):
        np.testing.assert_array_equal(pixels, np.concatenate([made[file][1] for file in files]))
        np.testing.assert_array_equal(labels, np.concatenate([made[file][0] for file in files]))
    assert found.classes == layout.classes
    assert not found.verified
    with pytest.raises(ValueError, match="read-only"):
        found.train[0] = 0


@pytest.mark.usefixtures("small")
def test_an_archive_is_the_same_as_its_files_and_its_digest_is_checked(tmp_path, monkeypatch):
    write(tmp_path / "files", "cifar10")
    layout = data.LAYOUTS["cifar10"]
    archive = tmp_path / layout.archive
    pack(tmp_path / "files", archive, layout.folder)
    with pytest.raises(InputError, match=r"expected the published file, MD5 c32a1d4a.*got another, MD5.*cifar\.html"):
        data.images("cifar10", tmp_path)
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(data.LAYOUTS, "cifar10", layout._replace(md5=md5))
    found = data.images("cifar10", tmp_path)
    assert found.verified
    loose = data.images("cifar10", tmp_path / "files", verify=False)
    np.testing.assert_array_equal(found.train, loose.train)
    assert found.digest() == loose.digest()
    assert found.digest() != found.first(train=5).digest()


@pytest.mark.usefixtures("small")
def test_unpacked_files_are_held_against_digests_where_there_are_any(tmp_path, monkeypatch):
    write(tmp_path, "cifar10")
    layout = data.LAYOUTS["cifar10"]
    with pytest.raises(InputError, match=r"expected cifar-10-binary\.tar\.gz, since no digests of the unpacked files"):
        data.images("cifar10", tmp_path)
    right = {
        name: hashlib.md5((tmp_path / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in (*layout.train, *layout.test)
    }
    monkeypatch.setitem(data.LAYOUTS, "cifar10", layout._replace(files_md5=right))
    assert data.images("cifar10", tmp_path).verified
    raw = bytearray((tmp_path / "data_batch_3.bin").read_bytes())
    raw[4321] ^= 1
    (tmp_path / "data_batch_3.bin").write_bytes(raw)
    with pytest.raises(InputError, match=r"data_batch_3\.bin: expected the published file.*verify = false"):
        data.images("cifar10", tmp_path)


def test_digests_are_those_published():
    """Guards a slip of the keyboard: both projects' lists, read again."""
    layouts = data.LAYOUTS
    assert layouts["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert layouts["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"
    assert {len(each) for each in layouts["cifar10"].files_md5.values()} == {32}
    assert set(layouts["cifar10"].files_md5) == {*layouts["cifar10"].train, *layouts["cifar10"].test}
    for layout, total in ((layouts["cifar10"], 30_730_000), (layouts["cifar100"], 153_700_000)):
        name, records = next(iter(layout.train.items()))
        assert records * layout.record == total, name  # bytes of data_batch_1.bin and of train.bin


def damage_missing(folder):
    (folder / "data_batch_2.bin").unlink()
    return r"data_batch_2\.bin: expected a readable data file \(No such file"


def damage_truncated(folder):
    raw = (folder / "data_batch_2.bin").read_bytes()
    (folder / "data_batch_2.bin").write_bytes(raw[:-1])
    return r"data_batch_2\.bin: expected 9219 bytes, 3 records of 3073, got 9218"


def damage_longer(folder):
    with (folder / "test_batch.bin").open("ab") as file:
        file.write(bytes(3073))
    return r"test_batch\.bin: expected 9219 bytes.*got 12292"


def damage_label(folder):
    raw = bytearray((folder / "data_batch_1.bin").read_bytes())
    raw[2 * 3073] = 10
    (folder / "data_batch_1.bin").write_bytes(raw)
    return r"data_batch_1\.bin: expected labels 0 to 9, got 10 in record 2"


@pytest.mark.parametrize("damage", [damage_missing, damage_truncated, damage_longer, damage_label])
@pytest.mark.usefixtures("small")
def test_damaged_files_are_a_clear_error(tmp_path, damage):
    write(tmp_path, "cifar10")
    data.images("cifar10", tmp_path, verify=False)  # fine before
    with pytest.raises(InputError, match=damage(tmp_path)) as caught:
        data.images("cifar10", tmp_path, verify=False)
    assert "\n" not in str(caught.value)
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in str(caught.value)


@pytest.mark.usefixtures("small")
def test_damaged_archives_are_a_clear_error(tmp_path):
    write(tmp_path / "files", "cifar10")
    layout = data.LAYOUTS["cifar10"]
    archive = tmp_path / layout.archive
    pack(tmp_path / "files", archive, layout.folder)
    raw = archive.read_bytes()
    for broken in (raw[: len(raw) // 2], b"not an archive", gzip.compress(bytes(5000)), b""):
        archive.write_bytes(broken)
        with pytest.raises(InputError, match=r"expected (a whole archive|cifar-10-batches-bin/)"):
            data.images("cifar10", archive, verify=False)
    spoilt = bytearray(lzma.compress(raw))
    spoilt[len(spoilt) // 2] ^= 0xFF
    archive.write_bytes(spoilt)
    with pytest.raises(InputError, match="expected a whole archive"):
        data.images("cifar10", archive, verify=False)
    with tarfile.open(archive, "w:gz") as tar:  # a whole one, of something else
        info = tarfile.TarInfo("elsewhere/data_batch_1.bin")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    with pytest.raises(InputError, match=r"expected cifar-10-batches-bin/data_batch_1\.bin in it, got none"):
        data.images("cifar10", archive, verify=False)


@pytest.mark.usefixtures("small")
def test_files_are_the_known_ones_or_refused(tmp_path):
    """What a study was read with, in this process and in one that reads the files later."""
    write(tmp_path / "files", "cifar10")
    known = image_files.digests_of_files(tmp_path / "files")
    found = data.images("cifar10", tmp_path / "files", verify=False, known=known)
    assert data.images("cifar10", tmp_path / "files", verify=False, known=known) is found  # not read again
    write(tmp_path / "files", "cifar10", seed=1)
    assert data.images("cifar10", tmp_path / "files", verify=False).digest() != found.digest()
    data._read.cache_clear()
    with pytest.raises(
        InputError, match=r"data_batch_1\.bin: changed while the study ran: expected .* SHA-256"
    ) as caught:
        data.images("cifar10", tmp_path / "files", verify=False, known=known)
    assert "\n" not in str(caught.value)
    write(tmp_path / "files", "cifar10")
    assert data.images("cifar10", tmp_path / "files", verify=False, known=known).digest() == found.digest()
    data._read.cache_clear()
    layout = data.LAYOUTS["cifar10"]
    pack(tmp_path / "files", tmp_path / "files" / layout.archive, layout.folder)  # which would now be taken
    with pytest.raises(InputError, match=r"gz: changed while the study ran: expected the file that was not there"):
        data.images("cifar10", tmp_path / "files", verify=False, known=known)


@pytest.mark.usefixtures("small")
def test_nothing_there_says_where_to_get_it(tmp_path):
    for path in (None, tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"get cifar-100-binary\.tar\.gz from https://www\.cs\.toronto\.edu"):
            data.images("cifar100", path)
    for path in ("~nobodyatall/x", "a" + chr(0)):
        with pytest.raises(InputError, match="path: expected where cifar100 lies, got"):
            data.images("cifar100", path)
    with pytest.raises(InputError, match="did you mean 'cifar10'"):
        data.images("cifar1O", tmp_path)
    with pytest.raises(InputError, match="expected data files of CIFAR"):
        image_files.digests_of_files(tmp_path)
    write(tmp_path, "cifar10")
    before = image_files.digests_of_files(tmp_path)
    write(tmp_path, "cifar10", seed=1)
    assert image_files.digests_of_files(tmp_path) != before
    with pytest.raises(InputError, match="train: expected at most the 15 images of cifar10, got 16"):
        data.images("cifar10", tmp_path, verify=False).first(train=16)


def test_digits_are_split_once_and_for_all():
    found = data.digit_images()
    assert (found.train.shape, found.test.shape) == ((1348, 1, 8, 8), (449, 1, 8, 8))
    assert set(found.train_labels.tolist()) == set(found.test_labels.tolist()) == set(range(10))
    assert found.digest() == data.digit_images().digest()
    rows = {image.tobytes() for image in found.train} & {image.tobytes() for image in found.test}
    assert len(rows) <= 1  # the set has hardly any image twice
    assert found.train.max() == found.white


def test_draws_are_functions_of_seed_epoch_and_image():
    many = draws(3, 5, 1000, padding=4)
    np.testing.assert_array_equal(draws(3, 5, 10, padding=4), many[:10])
    assert (many[:, :2].min(), many[:, :2].max()) == (0, 8)
    assert not np.array_equal(many, draws(3, 6, 1000))
    assert not np.array_equal(many, draws(4, 5, 1000))
    assert not draws(3, 5, 1000, flip=False)[:, 2].any()
    assert not draws(3, 5, 1000, padding=0)[:, :2].any()
    # 27 counts against uniform laws, fixed numbers; each would miss 5 standard deviations once in two million seeds
    for column, values in ((0, 9), (1, 9), (2, 2)):
        counts = np.bincount(draws(3, 0, 9000)[:, column], minlength=values)
        sd = np.sqrt(9000 / values * (1 - 1 / values))
        assert (np.abs(counts - 9000 / values) < 5 * sd).all()
    with pytest.raises(InputError, match="padding"):
        draws(0, 0, 5, padding=-1)
    assert rng.uniform(3, "crops and flips", (1, 3), step=5).shape == (1, 3)
