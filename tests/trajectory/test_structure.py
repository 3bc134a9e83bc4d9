"""The structure of a file, made once for files that differ in the values of their constants alone."""

import hashlib
import re

import h5py
import numpy as np
import pytest

from wgflow.trajectory import h5md, layout, schema


def constants(seed, document=b'{"seed": 3}', samples=5):
    rng = np.random.default_rng(seed)
    documents = {f"parameters/{name}": np.array(document) for name in schema.DOCUMENTS}
    x, y = rng.normal(size=(samples, 3)), rng.normal(size=(samples, 1))
    return documents | {"parameters/data/x": x, "parameters/data/y": y}


def made(path, arrays, frames=4):
    h5md.create(path, frames=frames, particles=2, width=3, observables={"half": (), "row": (5,)}, arrays=arrays)
    return path.read_bytes()


def test_bytes_do_not_depend_on_the_files_made_before(tmp_path):
    h5md._blank.cache_clear()
    alone = {seed: made(tmp_path / "alone.h5", constants(seed)) for seed in (1, 2)}
    h5md._blank.cache_clear()
    first = made(tmp_path / "alone.h5", constants(2))
    assert first == alone[2] != alone[1]
    assert made(tmp_path / "again.h5", constants(1)) == alone[1]
    assert h5md._blank.cache_info().misses == 1


def test_a_kept_structure_takes_the_values_of_each_file(tmp_path):
    for seed in (1, 2):
        made(tmp_path / "run.h5", arrays := constants(seed))
        with h5py.File(tmp_path / "run.h5") as file:
            for path, values in arrays.items():
                np.testing.assert_array_equal(file[path][()], values)


def test_other_shapes_have_structures_of_their_own(tmp_path):
    h5md._blank.cache_clear()
    for arrays, frames in ((constants(1), 4), (constants(1, b'{"seed": 33}'), 4), (constants(1), 6)):
        made(tmp_path / "run.h5", arrays, frames)
    assert h5md._blank.cache_info().misses == 3


def test_the_structure_of_a_file_with_many_samples_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(h5md, "_SMALL", 2000)
    h5md._blank.cache_clear()
    many = constants(1, samples=100)
    written = made(tmp_path / "run.h5", many)
    assert h5md._blank.cache_info().currsize == 0
    monkeypatch.setattr(h5md, "_SMALL", 2**20)
    assert made(tmp_path / "run.h5", many) == written


def test_files_that_are_alike_keep_digests_of_their_own(tmp_path):
    layout._structure.cache_clear()
    for seed in (1, 2):
        made(tmp_path / "run.h5", arrays := constants(seed))
        with layout.opened(tmp_path / "run.h5") as file:
            places = layout.read(file).places
        for path, values in arrays.items():
            assert places[path].sha256 == hashlib.sha256(values.tobytes()).hexdigest()
    assert layout._structure.cache_info().misses == 1


def test_a_front_that_lists_a_dataset_twice_is_refused(tmp_path):
    path = tmp_path / "run.h5"
    made(path, constants(1))
    with layout.opened(path) as file:
        block, size = file.read(2**14), path.stat().st_size
    start = int(block.split(b"\n")[1].split(b" ")[1])
    text = block[:start].split(b"\n", 2)[2]
    assert layout._parsed(text, size, start).places
    entry = re.search(rb'\["parameters/data/x"[^"]*"[^"]*"[^"]*"[0-9a-f]{64}"\]', text)[0]
    with pytest.raises(ValueError, match="listed twice"):
        layout._parsed(text.replace(entry, entry + b"," + entry), size, start)
