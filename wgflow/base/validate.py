"""Checks of arguments: real and whole numbers, arrays of finite numbers, instances of a class."""

from __future__ import annotations

import contextlib
import math
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.types import Array, Index


def check_instance(name: str, value: object, kind: type, hint: str = "") -> None:
    """Raise InputError unless a value is an instance of a class; a hint says what to do."""
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {kind.__name__}, got {describe(value)}{hint and '; '}{hint}")


def refuse_masked(name: str, value: object) -> None:
    """Raise InputError for NumPy arrays with masked entries, also inside lists: a plain array would lose the mask."""
    if isinstance(value, list | tuple):
        for item in value:
            if isinstance(item, list | tuple | np.ma.MaskedArray):
                refuse_masked(name, item)
    elif isinstance(value, np.ma.MaskedArray) and value.dtype.names is None:
        masked = np.argwhere(np.ma.getmaskarray(value))
        if len(masked):
            first = _at(masked[0])
            raise InputError(
                f"{name}: expected numbers without gaps, got {len(masked)} masked{first}; remove or impute them"
            )


def numbers(name: str, value: ArrayLike, kinds: str = "biuf", what: str = "an array of real numbers") -> NDArray[Any]:
    """View an argument as a plain array of numbers.

    Parameters
    ----------
    name, what : str
        Name of the argument and what is expected, for the message.
    value : array_like
        Nothing masked; no complex numbers, no strings of digits.
    kinds : str, optional
        NumPy kinds allowed.

    Raises
    ------
    InputError
        If it is anything else, or an object that cannot be converted.
    """
    refuse_masked(name, value)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in kinds:
            raise TypeError(f"of type {array.dtype}")
    except (TypeError, ValueError, RuntimeError, AttributeError, BufferError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{name}: expected {what}, got {describe(value)} ({reason})") from error
    return array


def finite_array(name: str, value: ArrayLike, dimensions: int, *, column: bool = False) -> Array:
    """Copy an argument into a read-only float64 array in row-major order.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : array_like
        Real, finite, not empty, nothing masked. Whole numbers beyond 2**53 are rounded to float64.
    dimensions : int
        Number of dimensions required.
    column : bool, optional
        Whether a list of numbers is read as a matrix with one column.

    Raises
    ------
    InputError
        If it is anything else.
    """
    columns = getattr(value, "columns", None) if hasattr(value, "to_numpy") else None  # of a DataFrame
    if columns is not None:
        value = _side_by_side(name, value, columns)
    array = numbers(name, value)
    with np.errstate(over="ignore"):  # a wider float beyond float64 becomes infinite, which is refused below
        array = np.array(array, dtype=np.float64, order="C")
    if column and array.ndim == 1:
        array = array[:, None]
    if array.ndim != dimensions or array.size == 0:
        word = "matrix" if dimensions == 2 else "list"
        raise InputError(f"{name}: expected a non-empty {word} of {dimensions} dimension(s), got shape {array.shape}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = _at(bad[0], array[tuple(bad[0])])
        at += f" ({str(columns[bad[0][1]])!r})" if columns is not None else ""
        raise InputError(f"{name}: expected finite numbers, got {len(bad)} that are not{at}; remove or impute them")
    array.flags.writeable = False
    return array


def _at(place: Index, value: object = "") -> str:
    """Value and position of the first of several entries, in words."""
    where = ", ".join(f"{axis} {i}" for axis, i in zip(("row", "column"), place.tolist(), strict=False))
    return f", the first {value}{' ' if str(value) else ''}at {where}" if where else ""


def _side_by_side(name: str, table: Any, columns: Any) -> Array:
    """Columns of a DataFrame as a matrix; raises InputError with the name of a column that is not numeric."""
    parts = [np.asarray(table[column]) for column in columns]
    for column, part in zip(columns, parts, strict=True):
        if part.dtype.kind not in "biuf":
            kind = getattr(table[column], "dtype", part.dtype)
            raise InputError(
                f"{name}: expected columns of real numbers, got {str(column)!r} of type {kind}; drop it or code it"
            )
    return np.column_stack(parts) if parts else np.empty((len(table), 0))


def real(name: str, value: object, *, above: float = -np.inf, least: float = -np.inf) -> float:
    """Check an argument that is a real number, and return it.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        A finite real number.
    above, least : float, optional
        Bounds: value > above, value >= least.

    Raises
    ------
    InputError
        If it is anything else.
    """
    value, number = scalar(value), math.nan
    if isinstance(value, int | float | np.floating) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError), np.errstate(over="ignore"):  # from a large int or a wider float
            number = float(value)
    if not (above < number < np.inf and number >= least):
        bound = f" > {above:g}" if above > -np.inf else f" >= {least:g}" if least > -np.inf else ""
        raise InputError(f"{name}: expected a finite number{bound}, got {describe(value)}")
    return number


def whole(name: str, value: object, least: int = 1) -> int:
    """Check an argument that is a whole number, at least ``least``, and return it; raises InputError."""
    value = scalar(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}: expected a whole number >= {least}, got {describe(value)}")
    return value


def scalar(value: Any) -> Any:
    """Python number from a NumPy scalar; anything else unchanged.

    A number in single precision becomes the shortest decimal that rounds to it: ``np.float32(0.1)`` is 0.1 and not
    0.10000000149.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating) and value.dtype != np.float64:
        return float(str(value))
    return value.item() if isinstance(value, np.bool_ | np.integer | np.float64) else value


def use_python_numbers(record: object) -> None:
    """Replace NumPy scalars in the fields of a dataclass by Python numbers; for ``__post_init__``."""
    for field in fields(record):  # type: ignore[arg-type] # callers are dataclasses
        value = getattr(record, field.name)
        plain = type(value)(map(scalar, value)) if type(value) in (list, tuple) else scalar(value)
        object.__setattr__(record, field.name, plain)
