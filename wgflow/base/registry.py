"""Registries: from a name, or a table with a name and options, to an object."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from wgflow.base.errors import InputError, describe

if TYPE_CHECKING:
    from wgflow.base.types import Spec

_SHOWN = 24  # most names listed in the message about an unknown one


class Options:
    """Base of dataclasses that a registry builds from a name and options."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        from wgflow.base.validate import use_python_numbers  # on demand: a command's help needs no NumPy

        use_python_numbers(self)
        self._check_options()

    def _check_options(self) -> None:
        """Raise InputError if an option is out of range."""

    def spec(self) -> Spec:
        """Plain JSON of name and options, from which the registry rebuilds the object."""
        return {"name": self.name} | dataclasses.asdict(cast(Any, self))


def suggest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'? "`` with the closest known name, or an empty string if none is close."""
    alike = [other for other in known if 2 * abs(len(other) - len(name)) <= len(name)]
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'? " if near else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Error for a name that is not in a registry.

    Parameters
    ----------
    kind, name : str, object
        What the name stands for, e.g. ``"block"``, and the value given.
    known : iterable of str
        The known names.
    """
    names = sorted(known)
    hint = suggest(name, names) if isinstance(name, str) else ""
    got = describe(name).removesuffix(" (str)")
    if len(names) <= _SHOWN:
        return InputError(f"unknown {kind} {got}: {hint}expected one of {', '.join(names)}")
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5) if isinstance(name, str) else []
    return InputError(
        f"unknown {kind} {got}: {hint}expected one of {len(names)}, such as {', '.join(map(repr, near or names[:4]))}"
    )


def check_name(kind: str, name: object, known: Collection[str]) -> None:
    """Raise InputError unless a name is known; arguments as for :func:`unknown`."""
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)


_Entry = TypeVar("_Entry")


def lookup(kind: str, name: object, table: Mapping[str, _Entry]) -> _Entry:
    """Entry of a registry; raises InputError if it has no such name."""
    check_name(kind, name, table)
    return table[cast(str, name)]


def name_and_options(kind: str, choice: object, instead: str = "") -> tuple[object, dict[str, object]]:
    """Name and options of a choice, from a name or a spec (a table with a ``name``).

    Parameters
    ----------
    kind, choice : str, object
        What is chosen, for the message, and a name or a mapping.
    instead : str, optional
        Description of the object that is accepted as well.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(choice, str):
        return choice, {}
    if not isinstance(choice, Mapping):
        or_object = f" or {instead}" if instead else ""
        hint = ""
        if isinstance(choice, type):
            hint = f"; make an object of it, {choice.__name__}(...)" if instead else ""
        elif callable(choice) and instead:
            hint = f"; a function alone is not enough, make {instead} of it"
        raise InputError(f"{kind}: expected a name, a table with a name{or_object}, got {describe(choice)}{hint}")
    options = dict(choice)
    return options.pop("name", None), options


def build(kind: str, choice: object, table: Mapping[str, type[_Entry]], instead: str = "") -> _Entry:
    """Object of a registry of dataclasses, from a name or spec; arguments as for :func:`name_and_options`.

    Raises
    ------
    InputError
        If the name or an option is unknown, or the class refuses a value.
    """
    name, options = name_and_options(kind, choice, instead)
    entry = lookup(kind, name, table)
    known = {field.name: field for field in dataclasses.fields(cast(Any, entry))}
    for option in options:
        check_name(f"option of {kind} {name!r}", option, known)
    for option, field in known.items():
        if option not in options and field.default is dataclasses.MISSING:
            raise InputError(f"{kind} {name!r}: expected the option {option!r}, got none; add it")
    return entry(**options)
