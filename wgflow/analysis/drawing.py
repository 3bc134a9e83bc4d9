"""What a figure is before it is drawn: its finding in words, the numbers behind it, and how to draw it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wgflow.types import Spec

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
