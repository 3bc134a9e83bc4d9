"""Numbers of a study written as formulas in a problem's sizes, ``"sqrt(D)"`` or ``"min(1, D / a**2) / D**2"``.

Published settings scale with the width of the state, and a grid may vary it.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name

LETTERS = ("D", "K", "M", "N", "L")  # state width, outputs, samples, particles, layers
_LONGEST = 200
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt, "exp": math.exp, "log": math.log, "min": min, "max": max
}  # fmt: skip
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


def check(text: str) -> str:
    """Check the syntax of a formula and return its text; names are not resolved.

    Raises
    ------
    InputError
        If it is none.
    """
    _tree(text)
    return text


def number(value: float | str, names: Mapping[str, float], key: str) -> float:
    """Value of a number or formula.

    Parameters
    ----------
    value : float or str
        A number, or arithmetic (+ - * / **, brackets) in numbers, names and the functions sqrt, exp, log, min, max.
    names : mapping of str to float
        What the names stand for.
    key : str
        Key of the study it is the value of, for messages.

    Raises
    ------
    InputError
        If it is no formula, a name is unknown, or the value is not a finite number >= 0.
    """
    if not isinstance(value, str):
        return value
    try:
        out = _value(_tree(value), names)
    except (ArithmeticError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{key}: {error}") from error
        raise InputError(f"{key}: expected a formula with a value, got {value!r} ({error})") from error
    if not 0 <= out < math.inf:
        raise InputError(f"{key}: expected a finite number >= 0, got {value!r} = {out:g}")
    return out


def _tree(text: str) -> ast.expr:
    """Formula as a tree of the few kinds of nodes it may have."""
    try:
        tree = ast.parse(text if len(text) <= _LONGEST else "", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _no_formula(text) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.keywords or not node.args:
                raise _no_formula(text)
            check_name("function in a formula", node.func.id, _FUNCTIONS)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool) or not isinstance(node.value, int | float):
                raise _no_formula(text)
        elif not isinstance(node, (ast.BinOp, ast.UnaryOp, ast.Name, ast.Load, *_OPERATORS)):
            raise _no_formula(text)
    return tree


def _value(node: Any, names: Mapping[str, float]) -> float:
    if type(node) is ast.Constant:
        return float(cast(float, node.value))
    if isinstance(node, ast.Name):
        check_name("name in a formula", node.id, names)
        return float(names[node.id])
    if isinstance(node, ast.Call):
        return _FUNCTIONS[cast(ast.Name, node.func).id](*(_value(argument, names) for argument in node.args))
    parts = (node.operand,) if isinstance(node, ast.UnaryOp) else (node.left, node.right)
    return _OPERATORS[type(node.op)](*(_value(part, names) for part in parts))


def _no_formula(text: str) -> InputError:
    return InputError(
        f"expected a number or a formula such as 'sqrt(D)', in {', '.join(LETTERS)} and {', '.join(_FUNCTIONS)}, got "
        f"{describe(text)}"
    )
