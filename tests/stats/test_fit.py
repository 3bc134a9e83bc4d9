"""Laws of depth and width from data whose constants are known, beside a twin that was written down again."""

import numpy as np
import pytest
from scipy.optimize import minimize

from wgflow.base.errors import InputError
from wgflow.stats import fit
from wgflow.stats.fit import cross_validate, fit_law, fit_parameters
from wgflow.stats.scaling_laws import LAWS, Sizes, log_rms, predict

SIZES = Sizes((2, 4, 8, 16, 32), (2, 4, 8, 16, 32, 64), (128, 256))
TRUE = (3.0, 1.5)


def law_rms(name, sizes, c1, c2, exponents=(1.0, 0.5, 0.0)):
    """The laws of the docstring, one size at a time."""
    a, b, g = {"path": (1, 0.5, 0), "independent": (1, 0.5, 0.5), "additive": (1, 0.5, 0.5)}.get(name, exponents)
    out = np.empty((len(sizes.depths), len(sizes.widths)))
    for i, depth in enumerate(sizes.depths):
        for j, width in enumerate(sizes.widths):
            deep, wide = depth**-a, width ** (-2 * b) * depth ** (-2 * g)
            if sizes.reference:
                deep -= sizes.reference[0] ** -a
                sign = -1 if sizes.nested else 1
                wide += sign * sizes.reference[1] ** (-2 * b) * sizes.reference[0] ** (-2 * g)
            if name == "additive":
                out[i, j] = c1 * deep + c2 * np.sqrt(sizes.dimension * wide)
            else:
                out[i, j] = np.sqrt((c1 * deep) ** 2 + c2**2 * wide)
    return out


def simulate(rng, seeds, path, c1=TRUE[0], outputs=20, sizes=SIZES):
    """Squares (S, nL, nM): a bias c1 (1/L - 1/L_ref) along one direction and means of sub-samples of the reference."""
    depths, widths = sizes.depths, sizes.widths
    deep, wide = sizes.reference
    bias = c1 * (1 / np.array(depths) - 1 / deep)[:, None, None]
    out = np.empty((seeds, len(depths), len(widths)))
    for s in range(seeds):
        if path:
            total = rng.standard_normal((wide, outputs)).cumsum(axis=0)
            noise = np.stack([total[m - 1] / m - total[-1] / wide for m in widths])[None]
        else:
            variance = 1 / np.outer(depths, widths) - 1 / (deep * wide)
            noise = rng.standard_normal((len(depths), len(widths), outputs)) * np.sqrt(variance)[..., None]
        out[s] = ((bias + TRUE[1] * noise) ** 2).mean(axis=-1)
    return out


REFERENCES = [None, ((128, 256), True), ((40, 100), True), ((40, 100), False)]


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
@pytest.mark.parametrize("name", sorted(LAWS))
def test_a_law_without_noise_is_recovered(name, reference):
    ref, nested = reference or (None, True)
    sizes = Sizes(SIZES.depths, SIZES.widths, ref, nested, dimension=7)
    exponents = (1.3, 0.45, 0.45) if name == "product" else (1.3, 0.45, 0.2)
    rms = law_rms(name, sizes, *TRUE, exponents)
    found = fit_law(np.tile(rms**2, (2, 1, 1)), sizes, name)
    np.testing.assert_allclose([found.depth.value, found.width.value], TRUE, rtol=1e-5)
    np.testing.assert_allclose(found.predicted, rms, rtol=1e-5)
    assert found.residual < 1e-10
    if name in ("free", "product"):
        np.testing.assert_allclose([each.value for each in found.exponents], exponents, atol=1e-5)
    other = "independent" if name == "path" else "path"
    assert fit_law(np.tile(rms**2, (2, 1, 1)), sizes, other).residual > 1e-3


@pytest.mark.parametrize("name", ["path", "independent", "additive"])
def test_the_minimum_is_the_one_of_a_twin(rng, name):
    """Against the simplex method on the laws written down again; noise of 30%, so that no law is met."""
    rms = law_rms("path", SIZES, *TRUE) * np.exp(0.3 * rng.standard_normal((5, 6)))
    rms[1, 2] = np.nan

    def cost(p):
        return np.nanmean((np.log(rms) - np.log(law_rms(name, SIZES, *np.exp(p)))) ** 2)

    twin = minimize(cost, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    found = fit_law((rms**2)[None], SIZES, name)
    np.testing.assert_allclose([found.depth.value, found.width.value], np.exp(twin.x), rtol=1e-5)
    assert found.residual == pytest.approx(twin.fun, rel=1e-9)
    assert np.isnan(found.depth.low)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("name", sorted(LAWS))
def test_derivatives(name, nested):
    sizes, law = Sizes((3, 5, 30), (2, 7, 20), (24, 70) if not nested else (30, 70), nested, 3), LAWS[name]
    point = np.array([0.3, -0.4, 1.2, 0.4, 0.3])[: law.parameters]
    depth, width = np.float64(sizes.depths)[:, None], np.float64(sizes.widths)[None, :]
    jacobian = log_rms(point, depth, width, sizes, law)[1]
    for k in range(law.parameters):
        step = 1e-6 * np.eye(law.parameters)[k]
        slope = (np.log(predict(point + step, sizes, law)) - np.log(predict(point - step, sizes, law))) / 2e-6
        np.testing.assert_allclose(jacobian[..., k], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("path", [True, False], ids=["path", "independent"])
def test_intervals_cover(rng, path, monkeypatch):
    """16 studies of 6 seeds, 7 numbers each at 95%: that one is covered less than 12 times has probability 0.6%.

    With 60 resamples in place of 400 to save time.
    """
    monkeypatch.setattr(fit, "RESAMPLES", 60)
    covered = np.zeros(7)
    for k in range(16):
        squares = simulate(rng, 6, path)
        stated = fit_law(squares, SIZES, "path" if path else "independent", f"{k}")
        free = fit_law(squares, SIZES, "free", f"{k}")
        intervals = [stated.depth, stated.width, free.depth, free.width, *free.exponents]
        truth = [*TRUE, *TRUE, 1.0, 0.5, 0.0 if path else 0.5]
        covered += [each.low <= number <= each.high for each, number in zip(intervals, truth, strict=True)]
    assert covered.min() >= 12
    assert covered.sum() < 7 * 16  # an interval that always covers is none


def test_exponents_tell_the_couplings_apart(rng):
    path, independent = (fit_law(simulate(rng, 8, each), SIZES, "free").exponents for each in (True, False))
    assert abs(path[1].value - 0.5) < 0.1 > abs(path[2].value)
    assert abs(independent[2].value - 0.5) < 0.15
    assert path[2].high < independent[2].low
    product = fit_law(simulate(rng, 8, False), SIZES, "product").exponents
    assert product[1] == product[2]
    assert abs(product[1].value - 0.5) < 0.1
    assert product[1].low <= 0.5 <= product[1].high
    assert product[1].high - product[1].low < independent[1].high - independent[1].low


@pytest.mark.parametrize("leave", ["size", "depth", "width"])
def test_the_wrong_law_loses(rng, leave):
    for path in (True, False):
        names = ("path", "independent") if path else ("independent", "path")
        found = cross_validate(simulate(rng, 8, path, c1=1.0), SIZES, ("independent", "path"), leave)
        assert found.laws == names
        assert found.decided
        assert found.score[1] > 2 * found.score[0]


def test_a_score_is_the_mean_over_fits_without_the_size(rng):
    squares = simulate(rng, 5, True)
    squares[:, 2, 3] = np.nan
    rms, off = np.sqrt(squares.mean(axis=0)), []
    for i, j in np.argwhere(~np.isnan(rms)):
        rest = rms.copy()
        rest[i, j] = np.nan
        fitted = np.exp(fit_parameters(rest, SIZES, LAWS["path"])[:2])
        off.append(np.log(rms[i, j] / law_rms("path", SIZES, *fitted)[i, j]) ** 2)
    found = cross_validate(squares, SIZES)
    assert found.score[0] == pytest.approx(np.mean(off), rel=1e-5)
    assert found.behind[1].value == pytest.approx(found.score[1] - found.score[0])


def test_what_decides_nothing_is_not_decided(rng):
    """Data without width: both laws are c1 (1/L - 1/L_ref) and neither may win; of 3 studies, 2 false have 0.7%."""
    decided = 0
    for _ in range(3):
        bias = (law_rms("path", SIZES, 3.0, 1e-9) ** 2)[None] * np.exp(0.1 * rng.standard_normal((5, 5, 6)))
        decided += cross_validate(bias, SIZES).decided
    assert decided <= 1


def test_missing_runs_and_the_reference_itself(rng):
    sizes = Sizes((2, 4, 8, 16), (2, 4, 8, 16), (16, 16))
    squares = np.tile(law_rms("path", sizes, *TRUE) ** 2, (5, 1, 1))
    squares[0, 0, 0] = np.nan
    squares[:, 1, 1] = np.nan
    found = fit_law(squares, sizes, "path")
    np.testing.assert_allclose([found.depth.value, found.width.value], TRUE, rtol=1e-6)
    assert np.isnan(found.rms[-1, -1])
    assert found.predicted[-1, -1] < 1e-5
    again = fit_law(squares, sizes, "path")
    assert (again.depth, again.width, again.residual) == (found.depth, found.width, found.residual)


def test_what_is_refused(rng):
    squares = simulate(rng, 4, True)
    with pytest.raises(InputError, match=r"unknown law 'paht': did you mean 'path'"):
        fit_law(squares, SIZES, "paht")
    with pytest.raises(InputError, match=r"expected shape \(seeds, 5, 6\)"):
        fit_law(squares[:, 1:], SIZES)
    with pytest.raises(InputError, match="errors > 0"):
        fit_law(squares * (np.arange(6) > 0), SIZES)
    with pytest.raises(InputError, match="finite numbers >= 0"):
        fit_law(-squares, SIZES)
    with pytest.raises(InputError, match="at least two increasing sizes"):
        Sizes((4,), (4, 8))
    with pytest.raises(InputError, match="sizes up to the reference's 16"):
        Sizes((4, 32), (4, 8), (16, 16))
    with pytest.raises(InputError, match="3 depths, 3 widths and more than 5 sizes"):
        fit_law(squares[:, :2], Sizes((2, 4), SIZES.widths), "free")
    with pytest.raises(InputError, match="enlarge the grid"):
        cross_validate(squares[:, :2], Sizes((2, 4), SIZES.widths), leave="depth")
    with pytest.raises(InputError, match="leave: expected one of size, depth, width"):
        cross_validate(squares, SIZES, leave="seed")
    with pytest.raises(InputError, match="two different names"):
        cross_validate(squares, SIZES, ("path", "path"))


def test_a_vanishing_term_has_an_upper_end(monkeypatch):
    """Where noise hides the term of depth its constant is 0 up to an honest end: 60 studies covered 92%; 85% are asked
    (missed by chance, at a true 92%, once in 30 other seeds).
    """
    monkeypatch.setattr(fit, "RESAMPLES", 100)  # enough for intervals of this width
    sizes, law = Sizes((1, 3, 6, 12), (1, 3, 6, 12)), LAWS["independent"]
    true = predict(np.log([0.08, 1.1]), sizes, law)
    random = np.random.default_rng(0)
    covered, ends = 0, []
    for k in range(60):
        found = fit_law(true**2 * random.chisquare(20, (5, *true.shape)) / 20, sizes, "independent", str(k))
        covered += found.depth.low <= 0.08 <= found.depth.high
        ends.append((found.depth.value, found.depth.high))
    assert covered >= 51
    assert min(high for _, high in ends) > 1e-2
    assert min(value for value, _ in ends) == 0.0  # the boundary was met


def test_intervals_in_logarithms_cover_constants_that_differ_by_factors(rng, monkeypatch):
    """Rows with log-normal constants, as draws of the data have them; the law of their rms is that of very many rows.

    Both constants should be covered in 92% of studies or more; fewer than 39 of 50 has a probability of 0.1% then.
    """
    monkeypatch.setattr(fit, "RESAMPLES", 60)
    sizes = Sizes((1, 6, 46, 166), (1, 6, 46, 166), None, nested=False, dimension=10)
    depth, width = sizes.grid

    def rows(count):
        c1 = np.exp(0.57 * rng.standard_normal((count, 1, 1))) * 0.07
        c2 = np.exp(0.28 * rng.standard_normal((count, 1, 1))) * 0.24
        noise = np.exp(0.4 * rng.standard_normal((count, 4, 4)))
        return (c1 / depth + c2 * np.sqrt(10 / (depth * width))) ** 2 * noise

    truth = fit.fit_point(rows(40_000), sizes, "additive")
    covered = np.zeros(2)
    for study in range(50):
        found = fit_law(rows(12), sizes, "additive", str(study), log_intervals=True)
        for k, each in enumerate((found.depth, found.width)):
            assert 0 < each.low < each.value < each.high
            assert each.value / each.low == pytest.approx(each.high / each.value)
            covered[k] += each.low <= truth[k] <= each.high
    assert (covered >= 39).all()
