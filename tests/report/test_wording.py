"""How sentences are typeset: one rule for findings, captions, titles, verdicts and tables, and what it leaves alone."""

import io
import math

import pytest

from wgflow.base import terminal
from wgflow.base.verdict import Claim
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.wording import cell, typeset


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the slope is -0.3 <= -1e-06", "the slope is −0.3 ≤ −10⁻⁶"),
        ("falls like N^-0.49 (-0.51 to -0.47)", "falls like N^−0.49 (−0.51 to −0.47)"),
        ("3.80e-06, 2e+21, 1e5 and 1e-12.", "3.80×10⁻⁶, 2×10²¹, 10⁵ and 10⁻¹²."),
        ("6.6e+02, 2.20e-02, 1e+04, -5e-04 and 1e+05", "660, 0.0220, 10000, −0.0005 and 10⁵"),
        ("-0.00 to -0.001, m^-0.00, -0, -0.5", "0.00 to −0.001, m^0.00, 0, −0.5"),
        ("lambda_min(f2) >= lambda, |phi'| = inf in l_inf(p), beta_L", "λ_min(f2) ≥ λ, |φ'| = ∞ in l_∞(p), β_L"),
        ("lambda_max, beta_(L+1), tau_rate = 1.0", "λ_max, β_(L+1), tau_rate = 1.0"),
        ("tau = 1 beside particles.tau=uniform, infimum", "τ = 1 beside particles.tau=uniform, infimum"),
        ("power of 1/L - 1/L_ref, |theta|**2 >= 0", "power of 1/L − 1/L_ref, |θ|^2 ≥ 0"),
        ("from m^(-1/2) -> 0 +- 0.1, a != b, 3 x 4", "from m^(−1/2) → 0 ± 0.1, a ≠ b, 3 × 4"),
        ("mean-field, one-sided, 2-homogeneous, Frank-Wolfe", "mean-field, one-sided, 2-homogeneous, Frank-Wolfe"),
        ("resnext29_8x64d of arXiv:2003.05508 on 2026-11-28", "resnext29_8x64d of arXiv:2003.05508 on 2026-11-28"),
        ("count=16, seed=-1 and scale=1e-3 diverged", "count=16, seed=-1 and scale=1e-3 diverged"),
        ("try flow.rtol = 1e-05 and flow.atol = 1e-08", "try flow.rtol = 1e-05 and flow.atol = 1e-08"),
        ("order $q$ leaves $\\alpha^{-1}$, $a -> b$, -1", "order $q$ leaves $\\alpha^{-1}$, $a -> b$, −1"),
        ("runs/a-1/b.h5, `x <= -1`", "runs/a-1/b.h5, `x <= -1`"),
    ],
)  # fmt: skip
def test_signs_of_mathematics_replace_their_stand_ins(text, expected):
    assert typeset(text) == expected
    assert typeset(expected) == expected


def test_tables_have_the_same_signs_and_labels_stay():
    assert [cell(value, 3) for value in (-0.25, 1.5e-7, math.nan, None)] == ["−0.25", "1.5×10⁻⁷", "", ""]
    assert cell("seed=-1", 3) == "seed=-1"
    assert cell("slope = -0.3 < 0", 3) == "slope = −0.3 < 0"


STEADY = Claim(
    "test steady", "drift", "<=", "", holds="it is steady", fails="it drifts by {left:g}", unknown="drift is unknown"
)


def drawing():
    made, (axes,) = style.panels(1)
    axes.set_title("power -0.5")
    axes.plot([0, 1], label="x <= -1")
    axes.legend()
    return made


@figure("test", lambda work: 0.0)
def probe(drift):
    """Figure with a condition."""
    return Result("E is -1e-03.", "Grey: m^-1.", drawing, verdicts=[], conditions=[STEADY(drift, 0.0)])


def test_a_condition_that_fails_comes_before_the_finding():
    assert probe.present(0.0).finding == "E is −0.001."
    assert probe.present(-1.0).finding == "E is −0.001."
    doubtful = probe.present(2.5)
    assert doubtful.finding == "It drifts by 2.5. E is −0.001."
    assert [each.holds for each in doubtful.verdicts] == [False]
    assert probe.present(math.nan).finding == "Drift is unknown. E is −0.001."


def test_titles_and_legends_are_typeset():
    result = probe.present(0.0)
    (axes,) = style.draw_styled(result).axes
    assert axes.get_title(loc="left") == "power −0.5"
    assert axes.get_legend().get_texts()[0].get_text() == "x ≤ −1"
    assert result.caption == "Grey: m^−1."


def test_a_terminal_without_these_signs_gets_their_stand_ins():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    terminal._put("−10⁻⁶ ≤ α ≠ √2·10² → ∞", stream)
    assert raw.getvalue().decode() == "-10^-6 <= alpha != sqrt2.10^2 -> inf"
