"""Hypotheses of Theorem 8 on paths whose convergence is known, and windows against their definition."""

import numpy as np
import pytest

from wgflow.base.errors import InputError
from wgflow.systems.neural_feature_flow.convergence import convergence, windows
from wgflow.theory.assumption import Condition

S = np.linspace(0, 64, 129)
CONVEX = Condition("phi convex in the output", "proved", "")


def along(path, other):
    """A run in which every entry of beta_L goes along one path, at one tenth but for unit 1, and v_(L+1) another."""
    scale = np.array([0.1, 1.0, 0.1])
    beta = path(S)[:, None, None] * scale[:, None] * np.array([1.0, -0.5])
    return windows(S, beta, other(S)[:, None] * scale)


def findings(path, other):
    return [each.finding for each in convergence(along(path, other), CONVEX).conditions[1:]]


def settles(s):
    return np.exp(-s / 10)


def still(s):
    return 0 * s


@pytest.mark.parametrize("path", [np.log1p, np.sqrt, np.positive, np.expm1])
def test_paths_that_go_on_are_refuted(path):
    assert findings(path, settles) == ["refuted", "not checked"]
    assert findings(settles, path) == ["not checked", "refuted"]
    assert convergence(along(path, settles), CONVEX).verdict == "fail"


def test_paths_that_settle_are_not_proved_to():
    assert findings(settles, lambda s: 1 / (1 + s)) == ["not checked", "not checked"]
    assert findings(still, still) == ["not checked", "not checked"]
    found = convergence(along(settles, settles), CONVEX)
    assert found.verdict == "unknown"
    assert "no contradiction" in found.sentence


def test_rounding_of_a_path_at_rest_is_no_motion():
    """The last digit goes on to change, by as much in every window."""
    last_digit = lambda s: 1.0 + 2**-52 * (np.arange(len(s)) % 3)  # noqa: E731
    assert findings(last_digit, last_digit) == ["not checked", "not checked"]


def test_infinity_is_refuted():
    with np.errstate(invalid="ignore"):
        found = convergence(along(lambda s: np.where(s < 60, 0.0, np.inf), settles), CONVEX)
    assert found.conditions[1].finding == "refuted"


def test_nan_is_refuted():
    found = convergence(along(lambda s: np.where(s < 60, 0.0, np.nan), settles), CONVEX)
    assert found.conditions[1].finding == "refuted"
    assert "is not finite from s = 32 to 64" in found.sentence


def test_windows_are_their_definition(rng):
    beta, outer = rng.normal(size=(129, 3, 4)), rng.normal(size=(129, 3))
    found = windows(S, beta, outer)
    assert [each.high for each in found] == [1, 2, 4, 8, 16, 32, 64]
    for each in found:
        assert each.low == each.high / 2
        end = int(np.argmax(each.high == S))
        inside = [t for t in range(129) if each.low <= S[t] < each.high]
        assert each.beta == max(np.abs(beta[t] - beta[end]).max() for t in inside)
        assert each.beta_mean == pytest.approx(max(np.abs(beta[t] - beta[end]).max(1).mean() for t in inside))
        assert each.outer == pytest.approx(max(np.abs(outer[t] - outer[end]).mean() for t in inside))
        assert each.outer_largest == max(np.abs(outer[t] - outer[end]).max() for t in inside)


def test_few_frames():
    assert windows(S[:1], np.zeros((1, 2, 2)), np.zeros((1, 2))) == []
    assert windows(np.array([0.0, 8.0]), np.zeros((2, 2, 2)), np.zeros((2, 2))) == []  # no frame from S / 2 on
    found = convergence([], CONVEX)
    assert found.verdict == "unknown"
    assert "fewer than two doubling windows" in found.sentence
    with pytest.raises(InputError, match="s: expected as many times as states, got 2, 1 and 2"):
        windows(S[:2], np.zeros((1, 2, 2)), np.zeros((2, 2)))
