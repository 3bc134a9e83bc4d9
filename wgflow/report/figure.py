"""What a figure is before it is drawn: its finding in words, the numbers behind it, and how to draw it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wgflow.base.types import Spec
from wgflow.study.workspace import Workspace

_Found = TypeVar("_Found")

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """A figure of a run.

    Attributes
    ----------
    finding : str
        What it shows, a sentence with numbers.
    caption : str
        What is drawn and how it was computed.
    draw : callable
        Draws it.
    tables : mapping of str to list of dict
        Numbers behind it, by file name; rows of plain JSON.
    """

    finding: str
    caption: str
    draw: Callable[[], Figure]
    tables: Mapping[str, list[Spec]] = MappingProxyType({})


def kept(find: Callable[[Workspace], _Found]) -> Callable[[Workspace], _Found]:
    """Keep what was found in a run for its other figures, as long as none of its files changes."""

    @functools.lru_cache(maxsize=2)
    def at(work: Workspace, state: tuple[tuple[str, int, int, int], ...]) -> _Found:
        del state
        return find(work)

    @functools.wraps(find)
    def found(work: Workspace) -> _Found:
        files = [work.folder / "study.json", *sorted(work.folder.glob("members/*"))]
        stats = [(path.name, path.stat()) for path in files if path.is_file()]
        return at(work, tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats))

    return found
