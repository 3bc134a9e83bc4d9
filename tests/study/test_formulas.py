"""Formulas in studies."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgflow.base.errors import InputError
from wgflow.study import formulas
from wgflow.study.schema import check_member
from wgflow.systems import members

NAMES = {"D": 16.0, "a": 2.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sqrt(D)", 4.0), ("10**-2 * sqrt(D)", 0.04), ("min(1, D/a**2) / D**2", 1 / 256), ("max(a, D, 3)", 16.0),
        ("-(-2) + 1", 3.0), ("exp(log(D))", 16.0), ("1e-3", 1e-3), ("+D - a*3/2", 13.0),
    ],
)  # fmt: skip
def test_values(text, value):
    assert formulas.number(text, NAMES, "key") == pytest.approx(value, rel=1e-15)


def test_numbers_are_what_they_are():
    assert formulas.number(0.25, NAMES, "key") == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number or a formula"), ("D D", "expected a number or a formula"),
        ("__import__('os')", "unknown function in a formula '__import__'"), ("D.real", "expected a number or a f"),
        ("[D]", "expected a number or a formula"), ("sqrt", "unknown name in a formula 'sqrt'"),
        ("E", "key: unknown name in a formula 'E'"), ("sqrt(-D)", "expected a formula with a value"),
        ("D/0", "expected a formula with a value"), ("9**9**9", "expected a formula with a value"),
        ("1 - D", "expected a finite number >= 0"), ("min(D)", "expected a formula with a value"),
        ("sqrt(D, D)", "expected a formula with a value"), ("True", "expected a number or a formula"),
        ("D if a else 1", "expected a number or a formula"), ("D" * 300, "expected a number or a formula"),
        ("'a' * 9", "expected a number or a formula"), ("min(*D)", "expected a number or a formula"),
        ("1j", "expected a number or a formula"), ("\0", "expected a number or a formula"), ("10**400", "expected a f"),
        ("D // 2", "expected a number or a formula"), ("D << 99", "expected a number or a formula"),
    ],
)  # fmt: skip
def test_what_is_no_formula(text, message):
    with pytest.raises(InputError, match=message.replace("**", r"\*\*")):
        formulas.number(formulas.check(text), NAMES, "key")


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_a_clear_error(text):
    try:
        value = formulas.number(text, NAMES, "key")
    except InputError:
        return
    assert 0 <= value < math.inf


def test_a_study_with_formulas():
    raw = {
        "problem": {
            "name": "gaussian", "width": 4, "state": "whole", "standardise": False,
            "block": {"name": "ridge", "bias": False},
        },
        "particles": {"per_layer": 3, "scale": {"a": "3 * sqrt(D)"}},
        "depth": {"name": "layers", "layers": 5},
        "flow": {"until": 1.0, "step": 1.0, "mobility": {"a": "L * N", "w": "min(1, D / a**2) / D**2"}},
    }  # fmt: skip
    setup = members.build(check_member(raw, "test"))
    assert setup.flow.mobility == {"a": 75.0, "w": pytest.approx(4 / 36 / 16)}
    assert setup.start.theta[:, :4].std() == pytest.approx(6.0, rel=0.3)
    assert setup.energy.problem.shape == (10, 4, 4, 8)
    raw["flow"]["mobility"] = {"w": "1 / c"}
    with pytest.raises(InputError, match=r"flow.mobility.w: unknown name in a formula 'c'"):
        members.build(check_member(raw, "test"))
    raw["flow"]["mobility"] = {"w": "1 +"}
    with pytest.raises(InputError, match=r"flow.mobility.w: expected a number or a formula"):
        check_member(raw, "test")
