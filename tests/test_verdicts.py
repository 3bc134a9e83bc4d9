"""Verdicts are decided by their inequalities, and every claim is made true and made false by a test."""

import ast
import importlib
import math
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from verdict_checks import made_false, made_true

import wgflow
from wgflow.base.verdict import CLAIMS, Claim, first_that_holds

TESTS = Path(__file__).parent
EXTRA = ("wgflow.systems.images", "wgflow.kernels.gpu")  # need PyTorch or a device; no claims are made there


def calls(name):
    """Claims, by name, that tests pass to a function of ``verdict_checks``."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name and len(node.args) == 2:
                found |= {part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant)}
    return found


@pytest.fixture(scope="module")
def claims():
    """All claims of the package."""
    for module in pkgutil.walk_packages(wgflow.__path__, "wgflow."):
        if not module.name.startswith(EXTRA) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {name for name in CLAIMS if not name.startswith("test ")}


def test_every_claim_is_made_true_and_false_by_a_test(claims):
    assert len(claims) >= 4
    assert sorted(claims - calls("made_true")) == []
    assert sorted(claims - calls("made_false")) == []


RISES = Claim(
    "test rises", "slope{at}", ">", "", holds="E rises by {left:.2g}", fails="E does not rise", unknown="no slope"
)
BOUNDED = Claim(
    "test bounded", "ratio", "<=", "bound", holds="bounded", fails="above its bound", unknown="no ratio", rounding=1e-9
)


def test_an_outcome_follows_from_the_numbers():
    rises, falls, lost = (RISES(slope, 0.0, at=" at 1") for slope in (0.25, -0.25, math.nan))
    assert str(rises) == "E rises by 0.25 (slope at 1 = 0.25 > 0)"
    assert str(falls) == "E does not rise (slope at 1 = -0.25 ≤ 0)"
    assert str(lost) == "no slope (slope at 1 = unknown, to be > 0)"
    assert (rises.holds, falls.holds, lost.holds) == (True, False, None)
    assert "0.12345678 ≤ bound = 0.12345679" in str(BOUNDED(0.12345678, 0.12345679))


def test_rounding_is_no_violation():
    assert BOUNDED(1.0 + 1e-10, 1.0).holds
    assert BOUNDED(1.0 + 1e-8, 1.0).holds is False
    assert BOUNDED(1.0 + 1e-10, 1.0).checked == "ratio = 1 ≤ bound = 1"
    assert not RISES(0.0, 0.0, at="").holds


def test_the_worst_pair_decides():
    worst = BOUNDED.of_all([1.0, 30.0, np.nan, 2.0], [2.0, 31.0, 0.0, 1.9])
    assert made_false(worst, "test bounded") == "above its bound (ratio = 2 > bound = 1.9)"
    nearest = BOUNDED.of_all([1.0, 30.0], [2.0, np.inf])
    assert made_true(nearest, "test bounded") == "bounded (ratio = 1 ≤ bound = 2)"
    assert BOUNDED.of_all([np.inf, 1.0], [5.0, 2.0]).holds is False
    assert BOUNDED.of_all([np.nan], [1.0]).holds is None
    assert RISES.of_all([0.5, -0.1, 3.0], 0.0, at="").holds is False


def test_the_first_claim_that_holds_is_said_with_all_that_was_checked():
    first = first_that_holds([BOUNDED(3.0, 2.0), RISES(1.0, 0.0, at="")])
    assert str(first) == "E rises by 1 (ratio = 3 > bound = 2, slope = 1 > 0)"
    assert first_that_holds([BOUNDED(1.0, 2.0), RISES(1.0, 0.0, at="")]).sentence == "bounded"
    assert first_that_holds([BOUNDED(3.0, 2.0), RISES(-1.0, 0.0, at="")]).sentence == "E does not rise"


def test_rows_are_json():
    assert RISES(math.inf, 0.0, at="").rows() == [
        {"claim": "test rises", "sentence": "E rises by inf", "inequality": "slope = ∞ > 0", "left": "∞",
         "relation": ">", "right": 0.0, "holds": True}
    ]  # fmt: skip


def test_a_claim_has_a_sentence_for_each_outcome_and_a_name_of_its_own():
    with pytest.raises(ValueError, match="sentence of its own"):
        Claim("test one", "x", "<", "", holds="fine", fails="fine", unknown="unknown")
    with pytest.raises(ValueError, match="another claim"):
        Claim("test rises", "x", "<", "", holds="yes", fails="no", unknown="unknown")
