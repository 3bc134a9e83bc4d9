"""Pickling and copying that keep arrays read-only and name objects of the user's that cannot be pickled."""

from __future__ import annotations

import copy
import functools
import importlib.util
import pickle
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from wgflow.base.errors import InputError, describe

_PACKAGE = __name__.partition(".")[0]
_SAFE = (_PACKAGE, "builtins", "numpy")  # packages whose types can be pickled


class _ByValue(NamedTuple):
    """An object that pickle cannot find by name, as cloudpickle writes it."""

    data: bytes


class Copyable:
    """Base of classes that are pickled and copied by their attributes, with read-only arrays staying read-only."""

    def _attributes(self) -> dict[str, Any]:
        """Attributes to copy."""
        return dict(self.__dict__)

    def _restore(self, attributes: dict[str, Any]) -> None:
        """Set attributes that were copied."""
        self.__dict__.update(attributes)

    def _label(self, name: str) -> str:
        """Name of an attribute in messages."""
        own = self.__dict__.get("name")
        return f"{name} of {type(self).__name__}{f' {own!r}' if isinstance(own, str) else ''}"

    def __getstate__(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        own = self._attributes()
        return {name: _portable(self._label(name), value) for name, value in own.items()}, _read_only(own)

    def __setstate__(self, state: tuple[dict[str, Any], tuple[str, ...]]) -> None:
        attributes = {name: _unpacked(value) for name, value in state[0].items()}
        _freeze(attributes, state[1])
        self._restore(attributes)

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied._restore(self._attributes())
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        own, copy_of = self._attributes(), functools.partial(copy.deepcopy, memo=memo)
        attributes = {name: _call(self._label(name), value, copy_of) for name, value in own.items()}
        _freeze(attributes, _read_only(own))
        copied._restore(attributes)
        return copied


def _read_only(attributes: dict[str, Any]) -> tuple[str, ...]:
    arrays = {name: value for name, value in attributes.items() if isinstance(value, np.ndarray)}
    return tuple(name for name, value in arrays.items() if not value.flags.writeable)


def _freeze(attributes: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        attributes[name].setflags(write=False)


def _portable(name: str, value: Any) -> Any:
    """Value in a form that any pickler can write: itself, or its bytes from cloudpickle."""
    if type(value) is tuple:
        return tuple(_portable(name, item) for item in value)
    home = value.__module__ if isinstance(value, types.FunctionType) else type(value).__module__
    if (home or "").partition(".")[0] in _SAFE:
        return value
    try:
        pickle.dumps(value)
    except Exception:
        pickler = "cloudpickle" if importlib.util.find_spec("cloudpickle") else "pickle"  # the first comes with dask
        return _ByValue(_call(name, value, importlib.import_module(pickler).dumps))
    return value


def _unpacked(value: Any) -> Any:
    if type(value) is tuple:
        return tuple(map(_unpacked, value))
    return pickle.loads(value.data) if isinstance(value, _ByValue) else value


def _call(name: str, value: Any, function: Callable[[Any], Any]) -> Any:
    try:
        return function(value)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{name}: expected an object that can be pickled and copied, got {describe(value)}: {reason}; define "
            "functions and classes at the top of a module, and keep files, locks and generators out of objects"
        ) from error
