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
def test_paths_that_go_on_are_said_to_and_refute_no_limit(path):
    for paths, place in (((path, settles), 1), ((settles, path), 2)):
        found = convergence(along(*paths), CONVEX)
        assert found.verdict == "unknown"
        assert "does not fall, as far as the run goes" in found.conditions[place].reason
        assert "does not fall" not in found.conditions[3 - place].reason
    assert findings(path, path) == ["not checked", "not checked"]


def test_a_path_that_converges_after_the_end_of_the_run_is_not_refuted():
    """tanh(s - 20) up to s = 24 changes more in its last doubling window than in the one before, and converges."""
    s = np.linspace(0, 24, 49)
    beta = np.tanh(s - 20)[:, None, None] * np.ones((3, 2))
    found = convergence(windows(s, beta, beta[:, :, 0]), CONVEX)
    assert found.verdict == "unknown"
    assert [each.finding for each in found.conditions[1:]] == ["not checked", "not checked"]
    assert "does not fall" in found.sentence


def test_paths_that_settle_are_not_proved_to():
    assert findings(settles, lambda s: 1 / (1 + s)) == ["not checked", "not checked"]
    assert findings(still, still) == ["not checked", "not checked"]
    found = convergence(along(settles, settles), CONVEX)
    assert found.verdict == "unknown"
    assert "falls, which does not prove a limit" in found.sentence


def test_rounding_of_a_path_at_rest_is_no_motion():
    """The last digit goes on to change, by as much in every window."""
    last_digit = lambda s: 1.0 + 2**-52 * (np.arange(len(s)) % 3)  # noqa: E731
    assert "does not fall" not in convergence(along(last_digit, last_digit), CONVEX).sentence


@pytest.mark.parametrize("end", [np.inf, np.nan])
def test_steps_that_diverge_refute_no_flow(end):
    with np.errstate(invalid="ignore"):
        found = convergence(along(lambda s: np.where(s < 60, 0.0, end), settles), CONVEX)
    assert found.conditions[1].finding == "not checked"
    assert "is not finite from s = 32 to 64: the steps diverged" in found.sentence


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
