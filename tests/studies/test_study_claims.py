"""What figures claim of runs is true of some and false of others, by the numbers that are printed with it."""

import numpy as np
from verdict_checks import made_false, made_true

from wgflow.studies.convergence.figure import closer
from wgflow.studies.convergence.reduce import Curve, Group
from wgflow.studies.hidden_width_scales.figure import flatness, laziness
from wgflow.studies.hidden_width_scales.reduce import Guide, Scale
from wgflow.studies.landscape import figure as landscape
from wgflow.studies.landscape.figure import Run, ends, slopes

S = np.linspace(0.0, 4.0, 5)


def ended(support, energy, slope, depth="deposit"):
    """A run that ends at this loss, with a certificate of this slope."""
    values = np.linspace(0.5, energy, 5)
    return Run(depth, support, "0", S, values, np.full(5, 1e-3), np.full(5, slope))


def test_certificates_find_descent_only_if_each_does():
    steep, flat = ended("point", 0.06, -1.3), ended("point", 0.06, -1e-9)
    text = made_true(slopes([steep, ended("point", 0.06, -2.0)]), "certificates_descend")
    assert "finds slopes of -1.3 to -2 " in text
    text = made_false(slopes([steep, flat]), "certificates_descend")
    assert "descent in 1 of 2 runs, -1.3, which does not exclude it" in text
    assert "descent in none" in made_false(slopes([flat]), "certificates_descend")
    assert slopes([ended("point", 0.06, np.inf)]).holds is None


def test_degenerate_starts_are_above_only_if_all_of_them_are():
    full, stuck = ended("full", 1e-4, -0.03), ended("point", 0.06, -1.3)
    held = made_true(ends([full, stuck], "deposit"), "degenerate_stays_above")
    assert held.startswith("0.0001 from full support, else 0.06 or more (")
    escaped = ended("origin", 5e-5, -0.1)
    made_false(ends([full, stuck, escaped], "deposit"), "degenerate_stays_above")
    assert ends([full], "deposit").holds is None
    assert ends([full, ended("point", 0.06, -1, "shallow")], "deposit").holds is None


def test_the_landscape_page_has_the_verdicts_of_its_figure():
    runs = [ended("full", 1e-4, -1e-12), ended("point", 0.06, -1.3)]
    result = landscape.landscape.present(landscape.Landscape(1.0, runs))
    made_true(result.verdicts, "degenerate_stays_above")
    made_false(result.verdicts, "certificates_descend")
    assert "the certificate finds descent in none, which does not exclude it" in result.finding


def scale(deviation, displacement):
    """Four scales of the output layers at D = 4 and LM = 10000, all of them controlled."""
    alpha = np.array([0.01, 0.1, 1.0, 10.0])
    return Scale(4, 10_000, alpha, np.array(deviation), np.array(displacement), S, np.ones((4, 5)))


def test_randomness_is_flat_and_then_grows_only_where_it_does():
    usual = flatness([scale([1.0, 1.1, 2.0, 9.0], [1] * 4)])
    assert "then 8.2 times or more" in made_true(usual, "deviation_grows")
    made_true(usual, "deviation_flat")
    made_false(flatness([scale([1.0, 1.1, 1.2, 1.3], [1] * 4)]), "deviation_grows")
    assert "a factor of 3" in made_false(flatness([scale([1.0, 3.0, 5.0, 9.0], [1] * 4)]), "deviation_flat")
    assert flatness([scale([1.0, np.nan, 5.0, 9.0], [1] * 4)]).holds is None


def test_laziness_is_said_only_within_the_factor():
    line = Guide(0.4, 0.05, 0.3, 1.0)
    made_true(laziness([scale([1.0] * 4, [1.0, 1.1, 0.9, 0.12])], line), "lazy")
    assert "only within 5 times" in made_false(laziness([scale([1.0] * 4, [1.0, 1.1, 0.9, 0.5])], line), "lazy")


def group(gaps):
    """Networks of N = 8, 16, 32 whose losses lie so far above the reference's, along s."""
    curves = {n: Curve(S, np.ones((2, 5)) + np.array(gap), np.empty((2, 0))) for n, gap in gaps.items()}
    curves[1024] = Curve(S, np.ones((2, 5)), np.empty((2, 0)))
    return Group("", tuple(gaps), 1024, curves, S, {}, True, 2, [])


def test_larger_networks_are_closer_only_where_they_are():
    nearer = group({8: np.full(5, 0.4), 16: np.full(5, 0.2), 32: np.full(5, 0.1)})
    assert "closer to N = 1024, at every s" in made_true(closer(nearer), "larger_is_closer")
    crossing = group({8: np.full(5, 0.4), 16: np.full(5, 0.2), 32: np.array([0.1, 0.1, 0.1, 0.1, 0.3])})
    text = made_false(closer(crossing), "larger_is_closer")
    assert "at 80% of all s" in text
    assert "over all s = 1.5 ≥ 1" in text
