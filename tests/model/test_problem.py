from decimal import Decimal

import numpy as np
import pytest
from scipy import sparse

import wgflow
from wgflow.base.errors import InputError
from wgflow.base.rng import normal
from wgflow.model import datasets
from wgflow.model.datasets import sine
from wgflow.systems.neural_feature_flow.network import Network as FeatureNetwork

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


def test_random_inputs_of_the_sine_are_uniform():
    x, y = sine(samples=4000, seed=1, spacing="random")
    np.testing.assert_array_equal(y, np.sin(x))
    # Kolmogorov's bound: P(sup |F_n - F| > d) <= 2 exp(-2 n d^2), 1e-9 here
    places = np.sort(x[:, 0]) / (2 * np.pi) + 0.5
    assert np.abs(places - (np.arange(4000) + 0.5) / 4000).max() < 0.052
    assert np.abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.1  # six standard deviations
    assert not np.array_equal(x, sine(samples=4000, seed=2, spacing="random")[0])
    with pytest.raises(InputError, match="unknown spacing 'odd'"):
        sine(spacing="odd")


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


MASKED = np.ma.masked_array(X, mask=[[0, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    "arguments",
    [
        (MASKED, Y),
        ([MASKED[0], MASKED[1], MASKED[2]], Y),
        ([[0.0, 1.0], [2.0, np.ma.masked], [4.0, 5.0]], Y),
        (np.ma.masked_values(X.astype(int), 3), Y),
        (X, np.ma.masked_array(Y, mask=[0, 1, 0])),
        (X, np.ma.masked_array(Y[:, None], mask=[[0], [1], [0]])),
        (X, [*Y[:2], np.ma.masked]),
    ],
)
def test_masked_entries_are_refused(arguments):
    with pytest.raises(InputError, match=r"[xy]: expected numbers without gaps, got 1 masked"):
        wgflow.Problem(*arguments)
    with pytest.raises(InputError, match="masked"):
        wgflow.Problem.padded(*arguments)


def test_a_mask_without_entries_hides_nothing():
    problem = wgflow.Problem(np.ma.masked_array(X), np.ma.masked_array(Y, mask=[False] * 3))
    np.testing.assert_array_equal(problem.x, X)
    assert type(problem.x) is np.ndarray


def test_masks_are_refused_wherever_arrays_come_in():
    problem = wgflow.Problem.padded(X, Y)
    energy = wgflow.Energy(problem, backend="reference")
    rho = wgflow.Particles.draw(problem, 2)
    theta = np.ma.masked_less(rho.theta, rho.theta.max())
    half = np.ma.masked_array([0.5, 0.5], mask=[1, 0])
    for call in (
        lambda: wgflow.Particles(theta, rho.tau),
        lambda: wgflow.Particles(rho.theta, half),
        lambda: wgflow.Particles(rho.theta, rho.tau, half),
        lambda: energy.predict(rho, MASKED),
        lambda: energy.velocity(rho, batch=np.ma.masked_array([0, 2], mask=[0, 1])),
        lambda: energy.first_variation(rho, theta, rho.tau),
        lambda: energy.first_variation(rho, rho.theta, half),
        lambda: problem.replace(MASKED, Y),
        lambda: wgflow.Problem(X, Y, embed=np.ma.masked_array(np.eye(2), mask=np.eye(2))),
        lambda: wgflow.Problem.from_spec(problem.spec(), problem.arrays() | {"x": MASKED}),
        lambda: datasets.split(MASKED, Y[:, None]),
        lambda: FeatureNetwork(MASKED, Y),
    ):
        with pytest.raises(InputError, match="masked"):
            call()


class Stubborn:
    """An array of another library that does not give its numbers away, as a tensor that requires grad."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first\nand more")


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (Stubborn(), r"x: expected an array of real numbers, got .* \(call detach\(\) first\)$"),
        (X.astype(complex), "x: expected an array of real numbers"),
        (X.astype(str), "x: expected an array of real numbers"),
        (X.astype("datetime64[s]"), "x: expected an array of real numbers"),
        ([[Decimal(1), 2]], "x: expected an array of real numbers"),
        ([[10**400, 2]], "x: expected an array of real numbers"),
        (sparse.csr_array(X), "x: expected an array of real numbers"),
        (np.float64(3.0), "x: expected a non-empty matrix"),
        (np.full((3, 2), np.longdouble("1e4000")), "x: expected finite numbers, got 6 that are not, the first inf"),
    ],
)
def test_other_arrays_are_refused_in_one_line(x, words):
    with pytest.raises(InputError, match=words) as found:
        wgflow.Problem(x, Y)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", ["bool", "uint64", "float16", "longdouble", "matrix", "subnormal", "list"])
def test_other_arrays_of_numbers_are_taken(kind):
    made = {"matrix": np.asmatrix, "subnormal": lambda x: 5e-324 * x, "list": lambda x: [tuple(row) for row in x]}
    x = made.get(kind, lambda x: x.astype(kind))(X)
    problem = wgflow.Problem(x, Y)
    np.testing.assert_array_equal(problem.x, np.array(x, np.float64))
    assert (problem.x.dtype, problem.x.shape, type(problem.x)) == (np.float64, X.shape, np.ndarray)


def test_numbers_beyond_the_largest_are_refused():
    flow = wgflow.Flow(wgflow.Energy(wgflow.Problem(X, Y), backend="reference"))
    for until in (10**400, np.longdouble("1e4000")):
        with pytest.raises(InputError, match="until: expected a finite number"):
            flow.run(wgflow.Particles.draw(flow.energy.problem, 2), until)


def test_a_tensor_that_requires_grad_is_refused_in_one_line():
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(X, requires_grad=True)
    for arguments in ((tensor, Y), (X, tensor[:, 0]), ([row[0] for row in tensor], Y)):
        with pytest.raises(InputError, match=r"requires grad.*detach") as found:
            wgflow.Problem(*arguments)
        assert len(str(found.value).splitlines()) == 1
    np.testing.assert_array_equal(wgflow.Problem(tensor.detach(), Y).x, X)


UNIT = normal(0, "unit", (400, 1))
FAR = {
    "far off": 1e12 + UNIT,
    "below": -1e13 + UNIT,
    "timestamps": (1_700_000_000_000_000_000 + (UNIT * 6e10).astype(np.int64)).astype(float),
    "two ends": np.where(UNIT > 0, 1e153, -1e153),
    "largest": 1.7e308 * np.clip(UNIT, -1, 1),
    "small": 1e-170 * UNIT,
    "smallest": 5e-324 * np.round(10 * UNIT),
    "large and far off": 1e200 * (1e6 + UNIT),
}


@pytest.mark.parametrize("name", FAR)
def test_columns_far_from_0_and_of_any_size_are_standardised(name, caplog):
    """Mean 0 and deviation 1, and the column itself up to a line: what was resolved stays resolved."""
    parts = datasets.split(FAR[name], UNIT, heldout=0.25, seed=1)
    assert abs(parts.x.mean()) < 1e-9
    assert parts.x.std() == pytest.approx(1.0, abs=1e-9)
    whole = np.sort(np.concatenate([parts.x, parts.x_heldout]), axis=0)
    assert np.corrcoef(whole[:, 0], np.sort(FAR[name][:, 0] / np.abs(FAR[name]).max()))[0, 1] > 0.9999
    assert not caplog.records


def test_standardising_is_as_good_as_that_of_scikit_learn(rng):
    """What scikit-learn scales so do we, and up to the rounding of its mean the numbers agree; equal numbers are 0."""
    scaler = pytest.importorskip("sklearn.preprocessing").StandardScaler()
    offsets, sizes = [0.0, 1.0, -1e3, 1e6, 1e12, -1e14, 1e16], [1.0, 1e-9, 1e5]
    x = np.column_stack([offset + size * rng.normal(size=300) for offset in offsets for size in sizes])
    made, kept = scaler.fit_transform(x), datasets.split(x, UNIT[:300]).x
    varying = scaler.scale_ != 1.0
    assert (kept[:, varying].std(axis=0) > 0).all()
    resolved = x.std(axis=0) > 100 * np.spacing(np.abs(x).max(axis=0))
    assert (kept[:, resolved].std(axis=0) > 0).all()
    assert (kept[:, np.ptp(x, axis=0) <= np.spacing(np.abs(x).max(axis=0))] == 0).all()
    error = np.abs(x).max(axis=0) / scaler.scale_ * 3e-14
    assert (np.abs(made - kept)[:, varying] <= error[varying] + 1e-14).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e12, 1e300, 5e-324])
def test_a_constant_column_becomes_0_and_is_named(value, caplog):
    x = np.column_stack([np.arange(300.0), np.full(300, value), np.full(300, value)])
    x[:, 2] = np.nextafter(x[:, 2], np.where(np.arange(300) % 2, np.inf, -np.inf)) if value in (0.1, 1e300) else value
    parts = datasets.split(x, np.ones((300, 1)))
    assert (parts.x[:, 1:] == 0).all()
    assert parts.x[:, 0].std() == pytest.approx(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "x: columns 1, 2 of 3 are constant over the training samples; standardised, they are 0",
        "y: column 0 of 1 is constant over the training samples; standardised, it is 0",
    ]


def test_ordinary_columns_keep_their_bits(rng):
    """All recorded results hang on the plain formula."""
    x = rng.normal(size=(200, 4)) * [1.0, 1e-6, 1e30, 50.0] + [0.0, 1e-3, 1e31, 2000.0]
    train = np.arange(200)
    kept = datasets.split(x, UNIT[:200]).x
    np.testing.assert_array_equal(kept, (x - x[train].mean(axis=0)) / x[train].std(axis=0))


@pytest.mark.parametrize(("mean", "spread"), [(1e13, 1.0), (1.7e18, 1e5), (1e15, 3.0), (-1e14, 1.0)])
def test_a_column_that_varies_by_more_than_rounding_is_not_constant(mean, spread):
    """By some hundred units in the last place, which is what can be told of it."""
    exact = np.random.default_rng(0).normal(size=(1000, 1))
    x = mean + spread * exact
    found = datasets.split(x, x).x
    assert found.std() == pytest.approx(1.0, abs=1e-6)
    assert np.corrcoef(found[:, 0], exact[:, 0])[0, 1] > 0.99


def test_tables_whose_rows_go_by_other_labels_are_refused():
    pandas = pytest.importorskip("pandas")
    x, y = pandas.DataFrame({"a": [1.0, 2.0]}, index=[0, 1]), pandas.Series([3.0, 4.0], index=[1, 0])
    for make in (wgflow.Problem, wgflow.Problem.padded):
        with pytest.raises(InputError, match="expected tables with the same index"):
            make(x, y)
        make(x, y.loc[x.index])
        make(x, y.to_numpy())


def test_shipped_data_are_what_scikit_learn_loads(monkeypatch):
    """They are read from its files, since importing it takes a second; a version without them is one line."""
    loaders = pytest.importorskip("sklearn.datasets")
    for ours, theirs in (
        (datasets.diabetes(), loaders.load_diabetes(return_X_y=True, scaled=False)),
        (datasets.digits(), loaders.load_digits(return_X_y=True)),
    ):
        np.testing.assert_array_equal(ours[0], theirs[0])
        label = ours[1][:, 0] if ours[1].shape[1] == 1 else ours[1].argmax(axis=1)
        np.testing.assert_array_equal(label, theirs[1])
    with pytest.raises(InputError, match=r"data set digits: expected it in scikit-learn's .*, got no such file"):
        datasets._shipped("digits", "elsewhere.csv.gz")
