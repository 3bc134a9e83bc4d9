"""What all commands have in common: one line for bad input, and streams that take any text.

What a command prints has paths and labels in it that are not ours, and goes to terminals that know few characters, to
readers that have gone (``| head``), to disks that are full, and to streams that were closed before it began. All of it
leaves by one of three ways: :func:`say` for a line on stderr, :func:`show` for text on stdout that somebody asked for,
:func:`console` for tables and progress.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from wgflow.base.errors import BackendError, InputError, TrajectoryError, WorkspaceError
from wgflow.base.exit_codes import BAD_INPUT, DISK, INTERNAL, INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_WIDE = 200  # columns where output goes to a file: a table takes what it needs and nothing is cut off
_NARROW = 40  # columns below which a table is no longer legible; a terminal as narrow as that breaks its lines
_IN_ASCII = dict(zip("−–—×·│└─", "---x.|+-", strict=True)) | {
    "…": "...", "±": "+-", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "√": "sqrt", "∫": "int", "∞": "inf", "∇": "grad",
    "⟨": "<", "⟩": ">", "ö": "oe",
}  # fmt: skip
_RAISED = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")


class Parser(argparse.ArgumentParser):
    """Command line with ``--debug``, whose errors are raised, to be said in one line; its subcommands are such too.

    Raises
    ------
    InputError
        From ``parse_args``, if the arguments do not fit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # no default: that of a subcommand would replace what its parent was given
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, once the descriptors of the standard streams are somebody's."""
        _occupy()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with the whole usage."""
        raise InputError(f"{message}; see --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        with contextlib.suppress(OSError):
            _put(message, file)


def explain(error: Exception) -> tuple[int, list[str]]:
    """Exit code of an error, and what to say of it."""
    if isinstance(error, InputError | BackendError | TrajectoryError | WorkspaceError):
        return BAD_INPUT, [str(error)]
    if isinstance(error, OSError):
        return DISK, [f"{error.filename}: {error.strerror}" if error.filename else str(error)]
    return INTERNAL, [f"internal error: {type(error).__name__}: {error}; --debug shows where"]


def execute(
    parser: Parser,
    body: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
    explain: Callable[[Exception], tuple[int, list[str]]] = explain,
) -> int:
    """Parse arguments, run the body of a command and return its exit code.

    Parameters
    ----------
    parser : Parser
        Its command line.
    body : callable
        Takes the parsed options and returns an exit code.
    arguments : sequence of str or None
        None for those of the process.
    explain : callable, optional
        Exit code of an error, and the lines to say of it.
    """
    options = argparse.Namespace(debug=False)
    try:
        options = parser.parse_args(arguments, options)
        return body(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        code, lines = explain(error)
        for line in lines:
            say(line)
        if options.debug:
            traceback.print_exc()
        return code


def say(text: str) -> None:
    """Write one line to stderr, if that can be written."""
    with contextlib.suppress(OSError):
        _put(f"wgflow: {one_line(text)}\n", sys.stderr)


def show(text: str) -> None:
    """Write a line to stdout; a reader that has gone is no error.

    Raises
    ------
    OSError
        If it cannot be written, to a full disk say.
    """
    with contextlib.suppress(BrokenPipeError):
        _put(f"{text}\n", sys.stdout)


def console(stderr: bool = False, width: int | None = _WIDE) -> Console:
    """Console on stdout or stderr that prints text literally, without markup or emoji codes (``[red]``, ``:eye:``).

    Style of our own is a ``rich.text.Text``. What cannot be written is lost: nothing that runs ends for it.

    Parameters
    ----------
    stderr : bool, optional
        Write to stderr.
    width : int, optional
        Columns where the stream is no terminal; None for those of the environment.
    """
    from rich.console import Console

    stream = _Stream("stderr" if stderr else "stdout")
    width = None if stream.isatty() else width
    terminal = Console(file=cast("IO[str]", stream), width=width, markup=False, emoji=False, highlight=False)
    terminal.width = max(terminal.width, _NARROW)
    return terminal


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """Progress on stderr with the time left; nothing where stderr is no terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    shown = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn("{task.percentage:>3.0f}%"),  # this and "left" are empty where the total is unknown
        TimeElapsedColumn(),
        TaskProgressColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, disable=quiet or not shown.is_terminal, transient=True) as progress:
        yield progress


def printable(text: str) -> str:
    r"""Text that is not ours: control characters, and bytes of a path that are no text, as ``\x1b`` and ``\udcff``."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def one_line(text: str) -> str:
    """Text with its lines joined by spaces, all else being printable."""
    return printable(re.sub(r"\s*[\r\n]\s*", " ", text.strip()))


class _Stream(io.TextIOBase):
    """The standard stream of a name as it is when written to."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _now(self) -> Any:
        stream = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # a live display puts itself in the stream's place

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return _encoding(self._now())

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            _put(text, self._now())
        return len(text)

    def isatty(self) -> bool:
        with contextlib.suppress(AttributeError, ValueError):
            return bool(self._now().isatty())
        return False

    def fileno(self) -> int:
        return int(self._now().fileno())


def _put(text: str, stream: Any) -> None:
    """Write text to a stream, in the characters it has; one that fails is silent from then on."""
    if stream is None or getattr(stream, "closed", False):
        return
    encoding = _encoding(stream)
    try:
        text.encode(encoding, getattr(stream, "errors", None) or "strict")
    except UnicodeEncodeError:
        text = _RAISED.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
        text = "".join(_in_encoding(character, encoding) for character in text)
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if stream.fileno() in (1, 2):  # or Python fails once more at its end, on what is left in the buffer
                with open(os.devnull, "wb") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())
        raise OSError(error.errno, error.strerror, getattr(stream, "name", None)) from error


def _encoding(stream: Any) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _in_encoding(character: str, encoding: str) -> str:
    """Character, or a word or look-alike of ASCII if the encoding lacks it."""
    with contextlib.suppress(UnicodeEncodeError):
        character.encode(encoding)
        return character
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER "):
        return name.rsplit(" ", 1)[-1].lower()
    if name.startswith("BRAILLE PATTERN"):
        return " " if name.endswith("BLANK") else "*"
    return _IN_ASCII.get(character) or character.encode("ascii", "backslashreplace").decode()


def _occupy() -> None:
    """Open what is closed of descriptors 0 to 2: the next file would have its number, and get what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free is this one
