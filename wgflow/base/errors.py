"""What can go wrong, one class each, and the words an error is made of.

Every library error is also the builtin error it refines, so ``except ValueError`` keeps working. A message says
what was expected, what came (value and type), and what to do.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, cast


class WgflowError(Exception):
    """Base of all errors raised on purpose by wgflow."""


class InputError(WgflowError, ValueError):
    """An argument, a study or a command line that cannot be used as given."""


class BackendError(WgflowError, RuntimeError):
    """A backend was asked for that this machine or this version does not have."""


class DivergenceError(WgflowError, FloatingPointError):
    """The flow left the finite numbers.

    Attributes
    ----------
    frame : Frame or None
        The last state whose energy and velocity were finite, so that nothing computed is lost.
    """

    def __init__(self, message: str, frame: Any = None) -> None:
        super().__init__(message)
        self.frame = frame


class TrajectoryError(WgflowError, OSError):
    """A trajectory file that is damaged, foreign, or of another version."""


class WorkspaceError(WgflowError, OSError):
    """A run folder that cannot be used: locked by another process, or written by something else."""


class LostError(WgflowError, OSError):
    """A file of a run that was there while it ran, and was removed or exchanged from outside."""


class StudyError(InputError):
    """A study that does not fit the schema.

    Attributes
    ----------
    problems : list of str
        One line for each thing found wrong, all of them at once.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[StudyError], tuple[list[str]]]:
        """Say how it is made again in another process."""
        return type(self), (self.problems,)


_SHOWN = 16  # names listed at most where one is unknown


def describe(value: object) -> str:
    """Value and type in a form short enough for one line of an error message."""
    kind = type(value).__name__
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an object of the user's that cannot say what it is
        return f"an object ({kind})"
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({kind})"


def suggest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'? "`` with the nearest known name, or nothing when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'? " if near else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Build the error for a name that is in no registry.

    Parameters
    ----------
    kind : str
        What the name should have named, e.g. ``"block"``.
    name : object
        What was given instead.
    known : iterable of str
        The names that would have done.
    """
    names = sorted(known)
    hint = suggest(name, names) if isinstance(name, str) else ""
    if len(names) <= _SHOWN:
        return InputError(f"unknown {kind} {describe(name)}: {hint}expected one of {', '.join(names)}")
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.0) if isinstance(name, str) else names[:4]
    return InputError(
        f"unknown {kind} {describe(name)}: {hint}expected one of {len(names)}, such as {', '.join(map(repr, near))}"
    )


def among(kind: str, name: object, known: Collection[str]) -> None:
    """Refuse what is none of these names; arguments as :func:`unknown`."""
    if not isinstance(name, str) or name not in known:
        raise unknown(kind, name, known)


def instance(name: str, value: object, kind: type, hint: str = "") -> None:
    """Refuse what is no object of a class.

    Parameters
    ----------
    name : str
        What the caller calls it, for the message.
    value : object
        What was given.
    kind : type
        The class.
    hint : str, optional
        What to do.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name}: expected {kind.__name__}, got {describe(value)}{hint and '; '}{hint}")


_Entry = TypeVar("_Entry")


def lookup(kind: str, name: object, table: Mapping[str, _Entry]) -> _Entry:
    """Entry of a registry.

    Raises
    ------
    InputError
        If the registry has no such name.
    """
    if not isinstance(name, str) or name not in table:
        raise unknown(kind, name, table)
    return table[name]


def named(kind: str, choice: object, instead: str = "") -> tuple[object, dict[str, object]]:
    """Name and options of a choice given as a name or as a spec (a table with a ``name``).

    Parameters
    ----------
    kind : str
        What is chosen, for the message.
    choice : object
        A name or a mapping.
    instead : str, optional
        The object that would do as well, in words.

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
    """Object of a registry of dataclasses from a name or a spec, unknown options refused; arguments as :func:`named`.

    Raises
    ------
    InputError
        If the name or an option is unknown, or the class refuses a value.
    """
    name, options = named(kind, choice, instead)
    made = lookup(kind, name, table)
    known = {field.name: field for field in dataclasses.fields(cast(Any, made))}
    for option in options:
        among(f"option of {kind} {name!r}", option, known)
    for option, field in known.items():
        if option not in options and field.default is dataclasses.MISSING:
            raise InputError(f"{kind} {name!r}: expected the option {option!r}, got none; add it")
    return made(**options)
