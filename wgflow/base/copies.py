"""Pickling and copying: what was read-only stays so, and an object of the user's that cannot be pickled is named."""

from __future__ import annotations

import copy
import importlib
import pickle
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from wgflow.base.errors import InputError, describe

_PACKAGE = __name__.partition(".")[0]
_SAFE = (_PACKAGE, "builtins", "numpy")  # where types come from that are not tried before they are pickled


class _ByValue(NamedTuple):
    """An object that pickle knows no name for, as cloudpickle writes it."""

    data: bytes


class Copyable:
    """Pickling, ``copy.copy`` and ``copy.deepcopy`` by the attributes, arrays that were read-only read-only again."""

    def _held(self) -> dict[str, Any]:
        """Attributes to be copied."""
        return dict(self.__dict__)

    def _take(self, held: dict[str, Any]) -> None:
        """Take over attributes that were copied."""
        self.__dict__.update(held)

    def _called(self, name: str) -> str:
        """What messages call an attribute."""
        own = self.__dict__.get("name")
        return f"{name} of {type(self).__name__}{f' {own!r}' if isinstance(own, str) else ''}"

    def __getstate__(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        held = self._held()
        return {name: _portable(self._called(name), value) for name, value in held.items()}, _read_only(held)

    def __setstate__(self, state: tuple[dict[str, Any], tuple[str, ...]]) -> None:
        held = {name: _unpacked(value) for name, value in state[0].items()}
        _freeze(held, state[1])
        self._take(held)

    def __copy__(self) -> Self:
        made = object.__new__(type(self))
        made._take(self._held())
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = object.__new__(type(self))
        memo[id(self)] = made
        held = self._held()
        copied = {
            name: _tried(self._called(name), value, lambda each: copy.deepcopy(each, memo))
            for name, value in held.items()
        }
        _freeze(copied, _read_only(held))
        made._take(copied)
        return made


def _read_only(held: dict[str, Any]) -> tuple[str, ...]:
    arrays = {name: value for name, value in held.items() if isinstance(value, np.ndarray)}
    return tuple(name for name, value in arrays.items() if not value.flags.writeable)


def _freeze(held: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        held[name].setflags(write=False)


def _portable(name: str, value: Any) -> Any:
    """Value in a form that any pickler can write: itself, or what cloudpickle makes of it.

    Raises
    ------
    InputError
        If there is none.
    """
    if type(value) is tuple:
        return tuple(_portable(name, each) for each in value)
    home = value.__module__ if isinstance(value, types.FunctionType) else type(value).__module__
    if (home or "").partition(".")[0] in _SAFE:
        return value
    try:
        pickle.dumps(value)
    except Exception as error:
        try:
            cloudpickle = importlib.import_module("cloudpickle")  # comes with dask
        except ImportError:
            raise _unportable(name, value, error) from error
        return _ByValue(_tried(name, value, cloudpickle.dumps))
    return value


def _unpacked(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(_unpacked(each) for each in value)
    return pickle.loads(value.data) if isinstance(value, _ByValue) else value


def _tried(name: str, value: Any, function: Callable[[Any], Any]) -> Any:
    try:
        return function(value)
    except InputError:
        raise
    except Exception as error:
        raise _unportable(name, value, error) from error


def _unportable(name: str, value: object, error: Exception) -> InputError:
    said = " ".join(str(error).split())[:160]
    return InputError(
        f"{name}: expected an object that can be pickled and copied, got {describe(value)}: {said}; define functions "
        "and classes at the top of a module, and keep files, locks and generators out of objects"
    )
