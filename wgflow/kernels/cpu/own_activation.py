"""Compile activations of the user's for the CPU kernels.

Value and slope are Python functions of arrays; as functions of one number most of them compile too. A row of numbers
at a time they are called through a pointer, so that no kernel is compiled again. NumPy's elementary functions are
replaced by those of :mod:`wgflow.kernels.cpu.elementary`, since loops over them vectorise.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import scipy
from numba import cfunc, njit, types
from numba.np.numpy_support import carray
from numpy.typing import NDArray
from scipy import special

from wgflow.kernels.codes import OWN
from wgflow.kernels.cpu import elementary
from wgflow.kernels.cpu.arguments import CompiledActivation, Constant
from wgflow.kernels.cpu.flags import COUNTED, FLAGS, LEAF
from wgflow.kernels.cpu.functions import call_at
from wgflow.kernels.cpu.vectors import whole_vectors
from wgflow.model.activations import Activation, ComplexStep

logger = logging.getLogger(__name__)

_LOG_2 = math.log(2.0)
_NUMBERS = (float, int, complex, str, bool, type(None), np.generic)
_KEPT = 64  # activations whose code is kept
_CLOSE = {"float64": 1e-11, "float32": 1e-5}  # difference allowed from NumPy, relative and relative to the largest
_TRIED = np.concatenate(
    [np.linspace(-9.03, 8.97, 61), np.linspace(-59.9, 59.3, 150), [-1e3, -60.0, -1e-9, 0.0, 1e-9, 60.0, 1e3, np.nan]]
)
_IN_NUMPY = "activation %r runs in NumPy, many times slower than compiled: %s"


def compiled_activation(activation: Activation, dtype: str) -> CompiledActivation | None:
    """Code of an activation of the user's, or None if it does not compile, or computes other numbers than in NumPy.

    Which of these it is, and why, is logged once.
    """
    name = activation.name
    try:
        constants = tuple(_constants(activation.value)) + tuple(_constants(activation.slope))
        code = _compiled(_Function(activation.value), _Function(activation.slope), dtype)
        with np.errstate(all="ignore"):
            wrong = _difference(activation, code, dtype)
    except Exception as error:  # Numba's compiler raises errors of many kinds
        _say_in_numpy(name, " ".join(str(error).split())[:300] or type(error).__name__)
        return None
    if wrong:
        logger.warning(_IN_NUMPY, name, wrong)
        return None
    _say_compiled(name, code.address)
    return code._replace(constants=constants)


@functools.cache
def _say_compiled(name: str, address: int) -> None:
    logger.info("activation %r is compiled into the kernel", name)


@functools.cache
def _say_in_numpy(name: str, reason: str) -> None:
    logger.info(_IN_NUMPY, name, reason)


def _constants(function: Any) -> Iterator[Constant]:
    """Numbers that a function and those it calls read by name.

    Raises
    ------
    TypeError
        If it reads anything else that may change without notice, such as an array: compiled code would not see it.
    """
    function = getattr(function, "value", None) if isinstance(function, ComplexStep) else function
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        return
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    for name, value in _names(function).items():
        value = getattr(value, "py_func", value)
        if isinstance(value, _NUMBERS):
            cell, known = cells.get(name), function.__globals__
            yield Constant(
                name, functools.partial(_contents, cell) if cell else functools.partial(known.get, name), value
            )
        elif isinstance(value, FunctionType):
            if value is not function and value not in _STAND_INS:
                yield from _constants(value)
        elif not isinstance(value, np.ufunc | BuiltinFunctionType | type) and not _stands_in(value):
            raise TypeError(f"it reads {name}, an object of class {type(value).__name__} that may change")


def _contents(cell: Any) -> Any:
    return cell.cell_contents


def _stands_in(value: Any) -> bool:
    try:
        return value in _STAND_INS
    except TypeError:  # it has no hash
        return False


class _Function:
    """A function, equal to another one if both have the same code and the same values of names in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._key = _key(function)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Function) and self._key == other._key


def _key(value: Any) -> Any:
    if isinstance(value, ComplexStep):
        return ComplexStep, _key(value.value)
    value = getattr(value, "py_func", value)
    if isinstance(value, FunctionType):
        used = _names(value)
        return value.__code__, _key(value.__defaults__), tuple((name, _key(used[name])) for name in sorted(used))
    if isinstance(value, _NUMBERS):
        return type(value), value
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    return _Same(value)


class _Same:
    """Any object, equal to itself alone."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


@functools.lru_cache(_KEPT)
def _compiled(value: _Function, slope: _Function, dtype: str) -> CompiledActivation:
    return _compile(value.function, slope.function, dtype)


def _compile(value: Any, slope: Any, dtype: str) -> CompiledActivation:
    real = getattr(types, dtype)
    pointer = types.CPointer(real)
    h, h_slope = _guarded(_scalar(value)), _guarded(_scalar(slope))

    def row(z_data, slope_data, code, eta, count):
        whole_vectors()
        z, out_slope = carray(z_data, count), carray(slope_data, count)
        for m in range(count):
            u = z[m]
            out_slope[m] = h_slope(u)
            z[m] = h(u)

    code = cfunc(types.void(pointer, pointer, types.int64, real, types.int64), **FLAGS | COUNTED)(row)
    return CompiledActivation(int(code.address or 0), code)


def _guarded(function: Any) -> Any:
    """The function, NaN where it raises an error: a row has nobody to raise it to."""

    @njit(forceinline=True, **LEAF | COUNTED)
    def guarded(z):
        try:
            return function(z)
        except Exception:
            return math.nan

    return guarded


def _scalar(function: Any) -> Any:
    """A function of an array as a compiled function of a number."""
    if isinstance(function, ComplexStep):
        value, h = _scalar(function.value), ComplexStep.h
        return _jit(lambda z: value(complex(z, h)).imag / h)
    function = getattr(function, "py_func", function)  # of one that is compiled already
    if isinstance(function, np.ufunc | BuiltinFunctionType) or function in _STAND_INS:
        return _jit(_rebuilt(lambda z: function(z)))
    if not isinstance(function, FunctionType):
        raise TypeError(f"it is an object of class {type(function).__name__}, not a function")
    return _jit(_rebuilt(function))


def _jit(function: Any) -> Any:
    return njit(forceinline=True, **LEAF | COUNTED)(function)


def _rebuilt(function: Any) -> FunctionType:
    """Copy of a function in whose code names stand for functions of one number."""
    code = function.__code__
    used = {name: _stand_in(value) for name, value in _names(function).items()}
    cells = tuple(_cell(used[name]) for name in code.co_freevars)
    copied = FunctionType(code, {"__name__": function.__module__} | used, code.co_name, function.__defaults__, cells)
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _cell(value: Any) -> Any:
    return (lambda: value).__closure__[0]  # type: ignore[index]


def _names(function: FunctionType) -> dict[str, Any]:
    """Global names and names of enclosing functions that a function uses, with their values."""
    known, cells = function.__globals__, function.__closure__ or ()
    free = {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}
    return {name: known[name] for name in _global_names(function.__code__) if name in known} | free


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _stand_in(value: Any) -> Any:
    value = getattr(value, "py_func", value)
    if isinstance(value, FunctionType) and value not in _STAND_INS:
        return _jit(_rebuilt(value))
    try:
        return _STAND_INS.get(value, value)
    except TypeError:  # it has no hash
        return value


def _where(condition, yes, no):
    return yes if condition else no


def _clip(z, low, high):
    return low if z < low else high if z > high else z


def _maximum(x, y):
    return x if x >= y or x != x else y


def _minimum(x, y):
    return x if x <= y or x != x else y


def _expit(z):
    return 1.0 / (1.0 + elementary.exp(-z))


def _logaddexp(x, y):
    return x + _LOG_2 if x == y else max(x, y) + elementary.log1p(elementary.exp(-abs(x - y)))


def _cosh(z):
    return 0.5 * elementary.exp(z) + 0.5 * elementary.exp(-z)


def _heaviside(z, middle):
    return 0.0 if z < 0.0 else 1.0 if z > 0.0 else middle if z == 0.0 else z


_NAMES = "tanh", "exp", "expm1", "log", "log1p", "sin", "cos"
_STAND_INS: dict[Any, Any] = {
    **{getattr(np, name): getattr(elementary, name) for name in _NAMES},
    **{getattr(math, name): getattr(elementary, name) for name in (*_NAMES, "erf")},
    special.erf: elementary.erf,
    special.expit: _jit(_expit),
    np.cosh: _jit(_cosh),
    math.cosh: _jit(_cosh),
    np.logaddexp: _jit(_logaddexp),
    np.where: _jit(_where),
    np.heaviside: _jit(_heaviside),
    np.clip: _jit(_clip),
    np.maximum: _jit(_maximum),
    np.minimum: _jit(_minimum),
    np.ones_like: _jit(lambda z: 1.0),
    np.zeros_like: _jit(lambda z: 0.0),
    np.positive: _jit(lambda z: z),
    np.square: _jit(lambda z: z * z),
}


def _with_stand_ins(module: ModuleType) -> ModuleType:
    twin = ModuleType(module.__name__)
    for name, value in vars(module).items():
        try:
            twin.__dict__[name] = _STAND_INS.get(value, value)
        except TypeError:
            twin.__dict__[name] = value
    return twin


_STAND_INS |= {module: _with_stand_ins(module) for module in (np, math, special)}
_STAND_INS[scipy] = ModuleType("scipy")
_STAND_INS[scipy].special = _STAND_INS[special]


def _difference(activation: Activation, code: CompiledActivation, dtype: str) -> str:
    """What compiled and NumPy's numbers differ in, if they do."""
    z = _TRIED.astype(dtype)
    value, slope = z.copy(), np.empty_like(z)
    _call(code.address, z.dtype.type(0), value, slope)
    exact = z.astype(np.float64)
    for what, function, ours in (("value", activation.value, value), ("slope", activation.slope, slope)):
        theirs: NDArray[Any] = np.asarray(function(exact), np.float64)
        size = np.max(np.abs(theirs), where=np.isfinite(theirs), initial=0.0)
        near = np.isclose(ours, theirs, rtol=_CLOSE[dtype], atol=_CLOSE[dtype] * min(size, 1.0), equal_nan=True)
        if not near.all():
            at = int(np.argmin(near))
            return f"compiled, its {what} at z = {z[at]:.6g} is {ours[at]:.6g} instead of {theirs[at]:.6g}"
    return ""


@njit(**FLAGS)
def _call(address, eta, z, out_slope):
    call_at(address, OWN, eta, z, out_slope)
