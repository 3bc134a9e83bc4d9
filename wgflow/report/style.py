"""How every figure looks, in one place: fonts, sizes, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from wgflow.report.matplotlib_import import mpl

# isort: split
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from wgflow.base.terminal import printable
from wgflow.report.figure import Drawing

# Okabe and Ito's palette, dark to light in the order in which series are drawn.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SEQUENCE = ("#fcb761", "#f08f55", "#df6a57", "#c24a63", "#9c3270", "#722377", "#461f71", "#1b1a5c")  # small N to large
_PLAIN = 1e5  # sizes that are printed in full from here on
GREY, INK, PAPER, GRID = "#6b6b6b", "#1f2328", "#ffffff", "#e4e4e4"
# The same on a dark page: one SVG serves both, its colours being looked up in the page's style sheet.
_DARK = {
    INK: "#e6e6e6", GREY: "#a0a0a0", PAPER: "#16181d", GRID: "#33363d",
    **dict(zip(COLOURS, ("#4aa8e0", "#f08a4b", "#2fc79a", "#e39cc4", "#f0b93a", "#8fd0f5"), strict=True)),
    **dict(zip(SEQUENCE, ("#6a4a9e", "#8f4fb0", "#b655b3", "#d862a6", "#ee7a94", "#f89a80", "#fbbd7c", "#fce39a"),
               strict=True)),
}  # fmt: skip

# From Matplotlib's defaults, so that no user's own settings, usetex say, change or break a figure of a study.
_RC: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"} | {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "wgflow",  # the same figure gives the same names inside the file
}


_SVG_METADATA = ("Date", "Creator", "Format", "Type")  # left out, with the addresses in them
_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a drawing function in the project's style, leaving Matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_RC), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a label in a script that the font has not
            return draw(*args, **kwargs)

    return wrapper


@styled
def panels(count: int, width: float = 5.4, height: float = 4.1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Figure with that many panels side by side, in so many rows; the panels row by row."""
    figure = Figure(figsize=(width * count, height * rows), layout="constrained")
    FigureCanvasAgg(figure)  # figures are files here: no window, no display, and the caller's backend is left alone
    return figure, list(figure.subplots(rows, count, squeeze=False).ravel())


def literal(text: str) -> str:
    """Text that is not ours, for a figure: its dollar signs begin no formula."""
    return printable(text).replace("$", r"\$")


def sequence(count: int) -> list[str]:
    """Colours for an ordered series, small to large, light to dark."""
    places = np.linspace(0, len(SEQUENCE) - 1, count) if count > 1 else [len(SEQUENCE) - 1]
    return [SEQUENCE[round(place)] for place in places]


def particle_axis(axes: Axes, sizes: Sequence[float], label: str = "particles $N$") -> None:
    """Logarithmic axis of N, or of another number of that kind, with a tick at each size."""
    axes.set(xscale="log", xlabel=label)
    axes.set_xticks(sorted(set(sizes)), [f"{size:g}" if size < _PLAIN else str(size) for size in sorted(set(sizes))])
    axes.minorticks_off()


def log_ticks(axes: Axes) -> None:
    """Logarithmic vertical axis with plain numbers at 1, 2 and 5 of each decade."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def empty_panel(axes: Axes, why: str) -> Figure:
    """Say in the figure why it is empty."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


@contextlib.contextmanager
def drawn(drawing: Drawing) -> Iterator[Figure]:
    """Draw a figure in the project's style, to be saved in any number of ways."""
    figure = styled(drawing.draw)()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() == "log" and not np.isfinite(axis.get_minpos()):  # nothing on it, and so no ticks
            (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("linear")
    yield figure


@styled
def save(figure: Figure, path: str | Path) -> list[str]:
    """Write a figure as PNG and PDF next to each other; returns the two names."""
    path = Path(path)
    _lay_out(figure)
    for suffix in (".png", ".pdf"):
        # No creation date in the file: the same numbers give the same bytes.
        figure.savefig(
            path.with_name(path.name + suffix), metadata={"CreationDate": None} if suffix == ".pdf" else None
        )
    return [path.name + ".png", path.name + ".pdf"]


@styled
def svg(figure: Figure) -> str:
    """Figure as an SVG element for a page, its colours named by :func:`style_sheet`."""
    _lay_out(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(_SVG_METADATA))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r"#[0-9a-fA-F]{6}\b", lambda found: _variable(found[0]), text)


def style_sheet() -> tuple[str, str]:
    """Declarations of the colours' names on a light and on a dark page."""
    light = "".join(f"{_name(colour)}:{colour};" for colour in _DARK)
    return light, "".join(f"{_name(colour)}:{dark};" for colour, dark in _DARK.items())


def _variable(colour: str) -> str:
    known = {each.lower() for each in _DARK}
    return f"var({_name(colour)})" if colour.lower() in known else colour


def _name(colour: str) -> str:
    return f"--{colour[1:].lower()}"


def _lay_out(figure: Figure) -> None:
    """Settle the layout once; each format would do it again. Titles too long for their panel go on two lines."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        if any([_break_title(figure, axes) for axes in figure.axes]):
            figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _break_title(figure: Figure, axes: Axes) -> bool:
    """Break a panel's title at spaces outside of formulas, if it reaches into the next panel or out of the figure."""
    text = axes.get_title(loc="left")
    titles = [each for each in axes.findobj(Text) if isinstance(each, Text) and text and each.get_text() == text]
    if not titles:
        return False
    extent, place = titles[0].get_window_extent(), axes.get_window_extent()
    right = [figure.bbox.x1]  # where the panels to the right begin
    for other in figure.axes:
        its, around = other.get_window_extent(), other.get_tightbbox()
        if around and other.get_title(loc="left") and its.x0 > place.x1 and its.y0 < place.y1 and its.y1 > place.y0:
            right.append(around.x0)
    room = min(right) - extent.x0
    if extent.width <= room:
        return False
    whole = re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", "\0"), text).replace(" = ", "\0=\0")
    letters = max(8, int(len(text) * room / extent.width) - 1)
    lines = textwrap.wrap(whole, letters, break_long_words=False, break_on_hyphens=False)
    axes.set_title("\n".join(lines).replace("\0", " "))
    return True
