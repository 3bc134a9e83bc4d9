"""Exceptions, and how values are described in their messages.

Every library error is also the builtin error it refines, so ``except ValueError`` keeps working. A message says
what was expected, what was given (value and type), and what to do.
"""

from __future__ import annotations

from typing import Any


class WgflowError(Exception):
    """Base of all errors raised on purpose by wgflow."""


class InputError(WgflowError, ValueError):
    """An argument, a study or a command line that cannot be used as given."""


class BackendError(WgflowError, RuntimeError):
    """A backend was asked for that this machine or this version does not have."""


class DivergenceError(WgflowError, FloatingPointError):
    """The flow diverged: a number is not finite.

    Attributes
    ----------
    frame : Frame or None
        The last state whose energy and velocity were finite.
    """

    def __init__(self, message: str, frame: Any = None) -> None:
        super().__init__(message)
        self.frame = frame


class DescentError(DivergenceError):
    """The descent rule found no step, down to its smallest, in which E decreases: E has a kink or rises at the state.

    Everything is finite; ``frame`` is the state at which the flow stops.
    """


class TrajectoryError(WgflowError, OSError):
    """A trajectory file that is damaged, foreign, or of another version."""


class BusyError(TrajectoryError):
    """A trajectory file that another process is writing."""


class WorkspaceError(WgflowError, OSError):
    """A run folder that cannot be used: locked by another process, or written by something else."""


class LostError(WgflowError, OSError):
    """A file of a run that was removed or replaced from outside while it ran."""


class StudyError(InputError):
    """A study that does not fit the schema.

    Attributes
    ----------
    problems : list of str
        One line per problem.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[StudyError], tuple[list[str]]]:
        """Pickle by the problems."""
        return type(self), (self.problems,)


def describe(value: object) -> str:
    """Value and type, short enough for one line of an error message."""
    kind = type(value).__name__
    try:
        text = " ".join(repr(value).split())
    except Exception:  # from a user's __repr__
        return f"an object ({kind})"
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({kind})"
