"""Objects of the user's own, such as a block or a loss: each is tried once, on a few numbers, when it comes in.

What wgflow defines itself costs nothing here. What a derivative should be is found from differences of the function it
belongs to, on both sides, so that at a kink any slope between the two will do.
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

_STEPS = (1e-5, 1e-7, 1e-9)  # of differences; the smaller ones for functions that bend within the first
_SLACK = 1e-5  # relative difference allowed between a derivative and differences
_SAME = 1e-9  # relative difference allowed between two evaluations of the same thing
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
    thing : object
        The object, known by its identity; it need be neither hashable nor weakly referable.
    about : hashable
        What else the trial depends on.
    trial : callable
        Raises InputError if the object fails.
    """
    known = _tried.get(id(thing))
    if known is not None and known[0]() is thing and about in known[1]:
        return
    with np.errstate(all="ignore"):
        trial()
    if known is not None and known[0]() is thing:
        known[1].add(about)
    else:
        _tried[id(thing)] = (_reference(thing), {about})


def _reference(thing: object) -> Callable[[], object]:
    key = id(thing)
    try:
        return weakref.ref(thing, lambda _: _tried.pop(key, None))
    except TypeError:  # slots, a tuple: kept alive for a while instead, so that its id stays its own
        _kept[key] = thing
        while len(_kept) > _KEPT:
            oldest = next(iter(_kept))
            del _kept[oldest]
            _tried.pop(oldest, None)
        return lambda: thing


def require_methods(kind: str, choice: object, example: str, names: Iterable[str]) -> None:
    """Refuse what cannot be an object of a kind: a class given for its instance, or an object that lacks a method.

    Parameters
    ----------
    kind : str
        What it should be, e.g. ``"loss"``.
    choice : object
        What was given.
    example : str
        The class that says what such an object has to offer.
    names : iterable of str
        Attributes it needs.

    Raises
    ------
    InputError
        If it is one of these.
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
    """Spec of an object as files keep it: one of the user's own is not to be taken for a built-in of the same name."""
    if is_builtin(thing) or spec.get("name") not in table:
        return spec
    return spec | {"name": f"{spec['name']} (own)"}


class Candidate(NamedTuple):
    """An object on trial.

    Attributes
    ----------
    kind, name : str
        What it is, for messages.
    """

    kind: str
    name: object

    def refuse(self, expected: str, got: str, do: str = "") -> InputError:
        """Error that says what was expected of the object, what came, and what to do."""
        return InputError(f"{self.kind} {self.name!r}: expected {expected}, got {got}{do and '; '}{do}")

    def call(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of the object returns.

        Raises
        ------
        InputError
            If it raises, or changes an argument.
        """
        given = [each.copy() if isinstance(each, np.ndarray) else each for each in arguments]
        shapes = ", ".join(str(each.shape) for each in arguments if isinstance(each, np.ndarray))
        try:
            made = function(*given)
        except WgflowError:
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:120]
            raise self.refuse(
                f"{what} to take arrays of shape {shapes}" if shapes else f"{what} to return",
                f"{type(error).__name__}{said and ': '}{said}",
            ) from error
        for before, after in zip(arguments, given, strict=True):
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
                raise self.refuse(
                    f"{what} to leave its arguments as they are", "an array it wrote to", "let it work on a copy"
                )
        return made

    def numbers(
        self, what: Sequence[str], function: Callable[..., Any], arguments: Sequence[Any], shapes: Sequence[Any]
    ) -> list[_Numbers]:
        """Arrays that a function of the object returns, called twice.

        Parameters
        ----------
        what : sequence of str
            What each array is called, the function's name first.
        function : callable
            Of the arguments.
        arguments : sequence
            Arrays and numbers.
        shapes : sequence of tuples
            The shapes expected.

        Raises
        ------
        InputError
            If the function raises, changes an argument, does not return the same again, or returns anything but real
            numbers in double precision of these shapes.
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

    def _arrays(self, what: Sequence[str], made: Any) -> list[_Numbers]:
        if len(what) == 1:
            return [np.asarray(made)]
        if not isinstance(made, tuple | list) or len(made) != len(what):
            raise self.refuse(f"{len(what)} arrays, {' and '.join(what)}", describe(made))
        return [np.asarray(each) for each in made]

    def finite(self, what: str, array: _Numbers) -> None:
        """Refuse numbers that are not finite."""
        bad = array[~np.isfinite(array)]
        if bad.size:
            raise self.refuse(f"{what} to be finite", str(bad[0]))

    def each_alone(self, what: str, whole: _Numbers, part: Any, each: str) -> None:
        """Refuse rows that depend on which other rows they were computed with.

        Parameters
        ----------
        what : str
            What the rows are.
        whole, part : ndarray (n, ...), (m, ...)
            Computed for all rows, and for the first m of them alone.
        each : str
            What a row belongs to.
        """
        part = np.asarray(part)
        if part.shape != whole[: len(part)].shape if part.ndim else True:
            raise self.refuse(f"{what} of one {each} alone to have shape {whole[:1].shape}", str(part.shape))
        if not nearly_equal(whole[: len(part)], part):
            at = _worst(whole[: len(part)], part)
            raise self.refuse(
                f"{what} of each {each} not to depend on the others",
                f"{whole[at]:.6g} among {len(whole)} and {part[at]:.6g} alone",
            )

    def slope(
        self, what: str, of: str, found: _Numbers, line: Callable[[float], _Numbers], where: Sequence[int] = ()
    ) -> None:
        """Refuse a derivative that differences contradict.

        Parameters
        ----------
        what, of : str
            What the derivative is called, and the function it belongs to.
        found : ndarray
            The derivative at 0.
        line : callable
            The function along a line, of a number to an array of that shape.
        where : sequence of int, optional
            Where along the line points, for the message.
        """
        wrong, expected = contradicted(found, line)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = (*at, *where)
            raise InputError(
                f"{self.kind} {self.name!r}: {what}{f' at {place}' if place else ''} is {found[at]:.6g}, "
                f"but differences of {of} give {expected[at]:.6g}; check sign and factors"
            )

    def slopes(
        self, what: str, of: str, gradient: _Numbers, moved: Callable[[Array], _Numbers], most: int, seed: int = 0
    ) -> None:
        """Refuse a gradient that differences contradict: along all axes or, if they are many, along some mixtures.

        Parameters
        ----------
        what, of : str
            What the gradient is called, and the function it belongs to.
        gradient : ndarray (..., n)
            The gradient.
        moved : callable
            The function of a move of the variable, (n,) to (...).
        most : int
            Axes at most, and the number of mixtures.
        seed : int, optional
            Seed of the mixtures.
        """
        count = gradient.shape[-1]
        axes = np.eye(count) if count <= most else normal(seed, f"try {what}", (most, count))
        for k, axis in enumerate(axes):
            line = functools.partial(_along, moved, axis)
            self.slope(what, of, np.asarray(gradient @ axis), line, (k,) if count <= most else ())

    def plain(self, spec: Any) -> None:
        """Refuse a spec that is no plain JSON with a name, as files need it, and a name that is no text."""
        if not isinstance(self.name, str):
            raise self.refuse("a name that is text", describe(self.name))
        try:
            json.dumps(spec)
            good = isinstance(spec, dict) and isinstance(spec.get("name"), str)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise self.refuse("spec() to be a dict of plain JSON with a name", describe(spec))


def contradicted(found: _Numbers, line: Callable[[float], _Numbers]) -> tuple[NDArray[np.bool_], Array]:
    """Entries of a derivative that differences of its function contradict, and what these give; see the module.

    Parameters
    ----------
    found : ndarray
        The derivative at 0.
    line : callable
        The function, of a number to an array of that shape.
    """
    found = np.asarray(found, np.float64)
    middle = np.asarray(line(0.0), np.float64)
    wrong, right, estimate = np.zeros(found.shape, bool), np.zeros(found.shape, bool), np.zeros(found.shape)
    for h in _STEPS:
        up, down = ((np.asarray(line(sign * h), np.float64) - middle) / (sign * h) for sign in (1.0, -1.0))
        size = np.maximum(np.abs(found), np.maximum(np.abs(up), np.abs(down)))
        finite = np.isfinite(size)
        noise = 16 * _EPS * np.abs(middle) / h
        allowed = _SLACK * size + 0.1 * _SLACK * np.max(size, where=finite, initial=0.0) + noise
        inside = (np.minimum(up, down) - allowed <= found) & (found <= np.maximum(up, down) + allowed)
        telling = finite & (noise <= 0.01 * size)  # otherwise rounding decides, and nothing is said
        right |= telling & inside
        wrong |= telling & ~inside
        estimate = (up + down) / 2 if h == _STEPS[0] else estimate
        if not (wrong & ~right).any():
            break
    return wrong & ~right, estimate


def nearly_equal(one: _Numbers, other: _Numbers) -> bool:
    """Whether two arrays of numbers are the same up to the order of sums."""
    size = np.max(np.abs(one), where=np.isfinite(one), initial=0.0)
    return bool(np.allclose(one, other, rtol=_SAME, atol=_SAME * size, equal_nan=True))


def _along(moved: Callable[[Array], _Numbers], axis: Array, t: float) -> _Numbers:
    return np.asarray(moved(t * axis))


def _worst(one: _Numbers, other: _Numbers) -> tuple[int, ...]:
    distance = np.abs(np.asarray(one, np.float64) - np.asarray(other, np.float64))
    flat = int(np.argmax(np.where(np.isnan(distance), np.inf, distance)))
    return tuple(int(i) for i in np.unravel_index(flat, distance.shape))
