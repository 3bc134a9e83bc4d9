"""Trials of the user's objects, such as a block or a loss: each is tried once, on a few numbers, when it is passed in.

Built-in objects are not tried. Derivatives are compared with finite differences on both sides; at a kink any slope
between the two is accepted.
"""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, WgflowError, describe
from wgflow.base.rng import normal
from wgflow.base.types import Array, Spec

_Numbers = NDArray[Any]

_STEPS = (1e-5, 1e-7, 1e-9)  # of differences; the smaller ones for functions that bend within the largest
_SLACK = 1e-5  # relative difference allowed between a derivative and differences
_SAME = 1e-9  # relative difference allowed between two evaluations of one function
_EPS = 2.0**-52
_KEPT = 64  # objects without weak references that are remembered

_tried: dict[int, tuple[Callable[[], object], set[Hashable]]] = {}
_kept: dict[int, object] = {}


def is_builtin(thing: object) -> bool:
    """Whether an object's class is defined in this package."""
    return type(thing).__module__.partition(".")[0] == __name__.partition(".")[0]


def try_once(thing: object, about: Hashable, trial: Callable[[], None]) -> None:
    """Run a trial of an object, unless that object has passed the same trial before.

    Parameters
    ----------
    thing, about : object, hashable
        The object, identified by ``id`` and thus of any kind, and whatever else the trial depends on.
    trial : callable
        Raises InputError if the object fails.
    """
    entry = _tried.get(id(thing))
    passed = entry[1] if entry is not None and entry[0]() is thing else set()
    if about in passed:
        return
    with np.errstate(all="ignore"):
        trial()
    if not passed:
        _tried[id(thing)] = (_reference(thing), passed)
    passed.add(about)


def _reference(thing: object) -> Callable[[], object]:
    key = id(thing)
    try:
        return weakref.ref(thing, lambda _: _tried.pop(key, None))
    except TypeError:  # slots, a tuple: kept alive for a while, so that its id is not reused
        _kept[key] = thing
        while len(_kept) > _KEPT:
            oldest = next(iter(_kept))
            del _kept[oldest]
            _tried.pop(oldest, None)
        return lambda: thing


def require_methods(kind: str, choice: object, example: str, names: Iterable[str]) -> None:
    """Refuse a class given instead of an instance, and an object that lacks a method.

    Parameters
    ----------
    kind, choice : str, object
        What it should be, e.g. ``"loss"``, and the value given.
    example, names : str, iterable of str
        The class that documents the interface, and the attributes required.
    """
    if isinstance(choice, type):
        raise InputError(
            f"{kind}: expected an object, got the class {choice.__name__}; make one of it, {choice.__name__}(...)"
        )
    missing = [name for name in names if not hasattr(choice, name)]
    if missing:
        raise InputError(
            f"{kind}: expected a name, or an object with {', '.join(names)} (see {example}), got {describe(choice)} "
            f"without {', '.join(missing)}"
        )


def recorded_spec(thing: object, spec: Spec, table: Mapping[str, object]) -> Spec:
    """Spec of an object for files: one of the user's own is not mistaken for a built-in one of the same name."""
    if is_builtin(thing) or spec.get("name") not in table:
        return spec
    return spec | {"name": f"{spec['name']} (own)"}


class Candidate(NamedTuple):
    """An object of the user's that is being tested; methods raise an InputError with its kind and name if it fails."""

    kind: str
    name: object

    def refuse(self, expected: str, got: str, do: str = "") -> InputError:
        """Error that says what was expected of the object, what it did, and what to do."""
        return InputError(f"{self.kind} {self.name!r}: expected {expected}, got {got}{do and '; '}{do}")

    def call(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the object, which may neither raise nor change an argument."""
        copies = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
        shapes = ", ".join(str(value.shape) for value in arguments if isinstance(value, np.ndarray))
        try:
            result = function(*copies)
        except WgflowError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise self.refuse(
                f"{what} to take arrays of shape {shapes}" if shapes else f"{what} to return",
                f"{type(error).__name__}{reason and ': '}{reason}",
            ) from error
        for before, after in zip(arguments, copies, strict=True):
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
                raise self.refuse(
                    f"{what} to leave its arguments as they are", "an array it wrote to", "let it work on a copy"
                )
        return result

    def numbers(
        self, what: Sequence[str], function: Callable[..., Any], arguments: Sequence[Any], shapes: Sequence[Any]
    ) -> list[_Numbers]:
        """Arrays that a function of the object returns, real numbers in double precision, the same when called twice.

        Parameters
        ----------
        what, shapes : sequence of str, sequence of tuples
            Names of the arrays, the function's name first, and the shapes expected.
        function, arguments : callable, sequence
            The function, and arrays and numbers to call it with.
        """
        first, again = (self._arrays(what, self.call(what[0], function, *arguments)) for _ in range(2))
        for name, array, other, shape in zip(what, first, again, shapes, strict=True):
            if array.shape != shape:
                raise self.refuse(f"{name} to have shape {shape}", str(array.shape))
            if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and array.dtype.itemsize < 8):
                raise self.refuse(f"{name} to be float64 for arguments in float64", str(array.dtype))
            if not nearly_equal(array, other):
                at = _worst(array, other)
                raise self.refuse(
                    f"{name} to be the same for the same arguments",
                    f"{array[at]:.6g} and then {other[at]:.6g}",
                    "anything random in it must be a function of the arguments",
                )
        return first

    def _arrays(self, what: Sequence[str], result: Any) -> list[_Numbers]:
        if len(what) == 1:
            return [np.asarray(result)]
        if not isinstance(result, tuple | list) or len(result) != len(what):
            raise self.refuse(f"{len(what)} arrays, {' and '.join(what)}", describe(result))
        return list(map(np.asarray, result))

    def finite(self, what: str, array: _Numbers) -> None:
        """Refuse numbers that are not finite."""
        bad = array[~np.isfinite(array)]
        if bad.size:
            raise self.refuse(f"{what} to be finite", str(bad[0]))

    def independent_rows(self, what: str, whole: _Numbers, part: Any, of: str) -> None:
        """Refuse rows that depend on the other rows they were computed with.

        Parameters
        ----------
        what, of : str
            Name of the rows, and what a row belongs to, such as a sample.
        whole, part : ndarray (n, ...), (m, ...)
            Computed for all rows, and for the first m of them alone.
        """
        part = np.asarray(part)
        if part.shape != whole[: len(part)].shape if part.ndim else True:
            raise self.refuse(f"{what} of one {of} alone to have shape {whole[:1].shape}", str(part.shape))
        if not nearly_equal(whole[: len(part)], part):
            at = _worst(whole[: len(part)], part)
            raise self.refuse(
                f"{what} of each {of} not to depend on the others",
                f"{whole[at]:.6g} among {len(whole)} and {part[at]:.6g} alone",
            )

    def slope(
        self, what: str, of: str, derivative: _Numbers, line: Callable[[float], _Numbers], where: Sequence[int] = ()
    ) -> None:
        """Refuse a derivative that differences contradict.

        Parameters
        ----------
        what, of : str
            Names of the derivative and of its function.
        derivative, line : ndarray, callable
            The derivative at 0, and the function along a line, from a number to an array of that shape.
        where : sequence of int, optional
            Index of the line, for the message.
        """
        wrong, expected = contradicted(derivative, line)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = (*at, *where)
            raise InputError(
                f"{self.kind} {self.name!r}: {what}{f' at {place}' if place else ''} is {derivative[at]:.6g}, "
                f"but differences of {of} give {expected[at]:.6g}; check sign and factors"
            )

    def slopes(
        self, what: str, of: str, gradient: _Numbers, moved: Callable[[Array], _Numbers], most: int, seed: int = 0
    ) -> None:
        """Refuse a gradient that differences contradict: along all axes or, if there are many, random directions.

        Parameters
        ----------
        what, of : str
            Names of the gradient and of its function.
        gradient, moved : ndarray (..., n), callable
            The gradient, and the function of a displacement of the variable, (n,) to (...).
        most, seed : int
            Largest number of axes, which is also the number of random directions, and their seed.
        """
        count = gradient.shape[-1]
        axes = np.eye(count) if count <= most else normal(seed, f"try {what}", (most, count))
        for k, axis in enumerate(axes):
            line = functools.partial(_at_step, moved, axis)
            self.slope(what, of, np.asarray(gradient @ axis), line, (k,) if count <= most else ())

    def plain(self, spec: Any) -> None:
        """Refuse a spec that is not plain JSON with a name, as files need it, and a name that is not text."""
        if not isinstance(self.name, str):
            raise self.refuse("a name that is text", describe(self.name))
        try:
            json.dumps(spec)
            valid = isinstance(spec, dict) and isinstance(spec.get("name"), str)
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise self.refuse("spec() to be a dict of plain JSON with a name", describe(spec))


def contradicted(derivative: _Numbers, line: Callable[[float], _Numbers]) -> tuple[NDArray[np.bool_], Array]:
    """Entries of a derivative that finite differences of its function contradict, and the differences.

    Parameters
    ----------
    derivative, line : ndarray, callable
        The derivative at 0, and the function, from a number to an array of that shape.
    """
    derivative = np.asarray(derivative, np.float64)
    middle = np.asarray(line(0.0), np.float64)
    wrong, right = np.zeros(derivative.shape, bool), np.zeros(derivative.shape, bool)
    estimate = np.zeros(derivative.shape)
    for h in _STEPS:
        up, down = ((np.asarray(line(sign * h), np.float64) - middle) / (sign * h) for sign in (1.0, -1.0))
        size = np.maximum(np.abs(derivative), np.maximum(np.abs(up), np.abs(down)))
        finite = np.isfinite(size)
        noise = 16 * _EPS * np.abs(middle) / h
        allowed = _SLACK * size + 0.1 * _SLACK * np.max(size, where=finite, initial=0.0) + noise
        inside = (np.minimum(up, down) - allowed <= derivative) & (derivative <= np.maximum(up, down) + allowed)
        decisive = finite & (noise <= 0.01 * size)  # otherwise rounding dominates
        right |= decisive & inside
        wrong |= decisive & ~inside
        estimate = (up + down) / 2 if h == _STEPS[0] else estimate
        if not (wrong & ~right).any():
            break
    return wrong & ~right, estimate


def nearly_equal(one: _Numbers, other: _Numbers) -> bool:
    """Whether two arrays of numbers are equal up to the order of sums."""
    size = np.max(np.abs(one), where=np.isfinite(one), initial=0.0)
    return bool(np.allclose(one, other, rtol=_SAME, atol=_SAME * size, equal_nan=True))


def _at_step(moved: Callable[[Array], _Numbers], axis: Array, t: float) -> _Numbers:
    return np.asarray(moved(t * axis))


def _worst(one: _Numbers, other: _Numbers) -> tuple[int, ...]:
    distance = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
    flat = int(np.argmax(np.where(np.isnan(distance), np.inf, distance)))
    return tuple(int(i) for i in np.unravel_index(flat, distance.shape))
