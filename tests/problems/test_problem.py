import numpy as np
import pytest

import wgflow
from wgflow.errors import InputError
from wgflow.problems import datasets
from wgflow.problems.regression import sine

X, Y = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 3.0])


def test_defaults_are_identity_and_mean():
    problem = wgflow.Problem(X, Y)
    assert problem.shape == (3, 2, 1, 5)
    np.testing.assert_array_equal(problem.start(), X)
    np.testing.assert_array_equal(problem.readout, [[0.5, 0.5]])


def test_padded_reads_what_it_padded():
    problem = wgflow.Problem.padded(X, np.column_stack([Y, Y]))
    assert problem.shape == (3, 4, 2, 9)
    np.testing.assert_array_equal(problem.start(), np.column_stack([X, np.zeros((3, 2))]))
    assert (problem.start() @ problem.readout.T == 0).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((X, Y[:2]), "expected one row of y for each row of x, got 3 and 2 rows"),
        (
            (np.where(X == 3, np.nan, X), Y),
            "x: expected finite numbers, got 1 that are not, the first nan at row 1, column 1",
        ),
        ((X, np.column_stack([Y, Y])), r"readout: expected a matrix of shape \(2, 2\)"),
        ((X[:, 0], Y), r"x: expected a non-empty matrix .* got shape \(3,\)"),
        ((X[:0], Y[:0]), "x: expected a non-empty matrix"),
        ((X + 1j, Y), "x: expected an array of real numbers"),
    ],
)
def test_bad_data(arguments, words):
    with pytest.raises(InputError, match=words):
        wgflow.Problem(*arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"embed": np.eye(3)}, r"embed: expected shape \(D, 2\)"),
        ({"readout": np.eye(2)}, r"readout: expected shape \(1, 2\), got \(2, 2\)"),
        ({"loss": "sqared"}, "did you mean 'squared'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(InputError, match=words):
        wgflow.Problem(X, Y, **options)


def test_data_are_copied_and_kept_from_writing():
    x = X.copy()
    problem = wgflow.Problem(x, Y)
    x[:] = 7
    np.testing.assert_array_equal(problem.x, X)
    with pytest.raises(ValueError, match="read-only"):
        problem.y[0] = 0


def test_diabetes_is_standardised_by_its_training_part():
    x, y = datasets.diabetes()
    assert (x.shape, y.shape) == ((442, 10), (442, 1))
    parts = datasets.split(x, y, heldout=0.25, seed=1)
    assert (len(parts.x), len(parts.x_heldout)) == (332, 110)
    np.testing.assert_allclose(parts.x.mean(axis=0), 0, atol=1e-13)
    np.testing.assert_allclose(parts.x.std(axis=0), 1)
    assert not np.allclose(parts.x_heldout.mean(axis=0), 0, atol=1e-3)
    raw = datasets.split(x, y, heldout=0.25, seed=1, standardise=False)
    assert {tuple(row) for row in np.vstack([raw.x, raw.x_heldout])} == {tuple(row) for row in x}


def test_constant_columns_become_zero():
    parts = datasets.split(np.full((10, 1), 0.1), np.arange(10.0)[:, None])
    assert (parts.x == 0).all()


def test_own_file(tmp_path):
    np.savez(tmp_path / "own.npz", x=X, y=Y)
    x, y = datasets.from_file(tmp_path / "own.npz")
    np.testing.assert_array_equal(x, X)
    assert y.shape == (3, 1)
    np.savez(tmp_path / "half.npz", x=X)
    with pytest.raises(InputError, match="expected arrays x and y, got x"):
        datasets.from_file(tmp_path / "half.npz")
    whole = (tmp_path / "own.npz").read_bytes()
    packed = bytearray(whole)
    packed[8] = packed[whole.rindex(b"PK\1\2") + 10] = packed[whole.index(b"PK\1\2") + 10] = 99  # how it is compressed
    for damaged in (b"no", b"", whole[: len(whole) // 2], bytes(packed)):
        (tmp_path / "no.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"expected a NumPy .npz file"):
            datasets.from_file(tmp_path / "no.npz")


def test_a_pickle_is_never_read(tmp_path):
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object), y=Y)
    with pytest.raises(InputError, match=r"expected a NumPy .npz file"):
        datasets.from_file(tmp_path / "evil.npz")


def test_sine():
    x, y = sine(samples=100, frequency=2.0)
    np.testing.assert_allclose(y, np.sin(2 * x))
    assert np.abs(x).max() < np.pi
    noisy = sine(samples=1000, noise=0.5, seed=3)[1] - sine(samples=1000)[1]
    assert noisy.std() == pytest.approx(0.5, rel=0.15)  # error rate below 1e-10
    with pytest.raises(InputError, match="samples: expected a whole number >= 1"):
        sine(samples=0)


@pytest.mark.parametrize("heldout", [-0.1, 1.0, float("nan")])
def test_bad_split(heldout):
    with pytest.raises(InputError, match="heldout: expected a fraction"):
        datasets.split(X, Y[:, None], heldout)


def test_digits_are_one_hot_classes():
    x, y = datasets.digits()
    assert x.shape == (1797, 64)
    assert y.shape == (1797, 10)
    np.testing.assert_array_equal(y.sum(axis=1), 1.0)
    assert np.bincount(y.argmax(axis=1)).min() == 174
    parts = datasets.split(x, y, 0.8, 0, True, False)
    assert set(np.unique(parts.y)) == {0.0, 1.0}
    assert len(parts.x) == 359
