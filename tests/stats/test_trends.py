"""What is said of powers of a size: only what the interval of the exponent supports."""

import numpy as np
from verdict_checks import made_false, made_true

from wgflow.stats.convergence_rates import Interval, estimate, rms
from wgflow.stats.trends import decay, trend

SIZES = (8, 16, 32, 64, 128)


def measured(rng, power):
    """Rms over eight seeds of something that goes like N**(-power), with 3% noise."""
    values = np.array(SIZES, float) ** -power * (1 + 0.03 * rng.normal(size=(8, 5)))
    return estimate(SIZES, 8, rms(values**2), "trend")


def test_a_rate_is_said_only_of_what_falls(rng):
    falls, rises = (measured(rng, power).rate for power in (0.5, -0.5))
    assert "the error falls like N^-0.5 (low end" in made_true(decay(falls, "the error", "N^-0.5"), "power_law_falls")
    assert made_false(decay(rises, "the error", ""), "power_law_falls").startswith(
        "the error shows no significant trend"
    )
    few = estimate(SIZES, 2, rms(np.ones((2, 5))), "trend").rate
    said = decay(few, "the error", "")
    assert (said.holds, said.sentence) == (None, "the error has no rate (2 seeds, 4 are needed)")


def test_a_trend_needs_an_interval_on_one_side_of_0():
    grows = trend(Interval(-0.4, -0.5, -0.3), "the error", "N^0.4")
    assert made_true(grows, "power_law_grows").startswith("the error grows like N^0.4")
    made_false(grows, "power_law_falls")
    flat = trend(Interval(0.1, -0.2, 0.4), "the error", "N^-0.1")
    assert "no significant trend, N^-0.1 (low end" in made_false(flat, "power_law_grows")
    assert (
        trend(Interval(0.1, np.nan, np.nan), "the error", "N").sentence
        == "the error has no rate (its interval is unknown)"
    )
