"""Style of all figures: fonts, sizes and a colour-blind-safe palette; saving as PNG, PDF and SVG."""

from __future__ import annotations

import contextlib
import contextvars
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wgflow.report.matplotlib_import import mpl

# isort: split
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation, LogLocator, MaxNLocator, NullLocator

from wgflow.base.terminal import printable
from wgflow.report.figure import Result
from wgflow.report.wording import typeset

# Okabe and Ito's palette, in the order in which series are drawn.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SEQUENCE = ("#fcb761", "#f08f55", "#df6a57", "#c24a63", "#9c3270", "#722377", "#461f71", "#1b1a5c")  # small to large N
_PLAIN = 1e5  # sizes from here on are printed in full, not by :g
GREY, INK, PAPER, GRID = "#6b6b6b", "#1f2328", "#ffffff", "#e4e4e4"
# Replacements on a dark page: the SVG refers to colours by name, and the page's style sheet defines them.
_DARK = {
    INK: "#e6e6e6", GREY: "#a0a0a0", PAPER: "#16181d", GRID: "#33363d",
    **dict(zip(COLOURS, ("#4aa8e0", "#f08a4b", "#2fc79a", "#e39cc4", "#f0b93a", "#8fd0f5"), strict=True)),
    **dict(zip(SEQUENCE, ("#6a4a9e", "#8f4fb0", "#b655b3", "#d862a6", "#ee7a94", "#f89a80", "#fbbd7c", "#fce39a"),
               strict=True)),
}  # fmt: skip

# From Matplotlib's defaults, so that a user's settings, such as usetex, cannot change or break a figure.
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
    "svg.hashsalt": "wgflow",  # reproducible element names
}


_one_column = contextvars.ContextVar("one column", default=False)  # of panels, for a narrow page
_COLUMN = 4.4, 3.7  # largest width and height of a panel there, in inches: a screen of 390 px sets text at 12 px
_SUBS = {1.0: (1.0, 2.0, 5.0), 0.6: (1.0, 2.0, 3.0, 5.0, 7.0), 0.0: ()}  # ticks by decades; none: at equal distances
_WRAPS = 3  # of titles, whose letters differ in width
_SVG_METADATA = ("Date", "Creator", "Format", "Type")  # left out, and so are the links in them


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw in the project's style, as a context or a decorator, and restore Matplotlib's settings."""
    with mpl.rc_context(_RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a label in a script that the font lacks
        yield


@styled()
def panels(count: int, width: float = 5.4, height: float = 4.1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Figure with ``rows`` rows of ``count`` panels, and the panels in row-major order; below each other if narrow."""
    if _one_column.get():
        count, rows, width, height = 1, rows * count, min(width, _COLUMN[0]), min(height, _COLUMN[1])
    figure = Figure(figsize=(width * count, height * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no window or display needed, and the caller's backend stays unchanged
    return figure, list(figure.subplots(rows, count, squeeze=False).ravel())


def literal(text: str) -> str:
    """User's text for a figure, its dollar signs escaped."""
    return printable(text).replace("$", r"\$")


def sequential_colours(count: int) -> list[str]:
    """Colours of an ordered series, from light (small) to dark (large)."""
    places = np.linspace(0, len(SEQUENCE) - 1, count) if count > 1 else [len(SEQUENCE) - 1]
    return [SEQUENCE[round(place)] for place in places]


def particle_axis(axes: Axes, sizes: Sequence[float], label: str = "particles $N$") -> None:
    """Set a logarithmic horizontal axis of N, or another size, with a tick at every size."""
    ticks = sorted(set(sizes))
    axes.set(xscale="log", xlabel=label)
    axes.set_xticks(ticks, [f"{size:g}" if size < _PLAIN else str(size) for size in ticks])
    axes.minorticks_off()


def flow_time_axis(axes: Axes, last: float) -> None:
    """Set a horizontal axis of flow time from 0 to ``last``, linear up to 1 and logarithmic beyond."""
    last = last or 1.0
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    ticks = [0, *(10**k for k in range(6) if 10**k <= last)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlabel="flow time $s$", xlim=(-0.05, 1.1 * last))


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend with one entry for each label, that of the first of several artists."""
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles=[handles[labels.index(label)] for label in dict.fromkeys(labels)], **options)


def empty_panel(axes: Axes, why: str) -> Figure:
    """Write the reason into an empty panel, without axes, and return its figure."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def draw_styled(result: Result, narrow: bool = False) -> Figure:
    """Draw a figure in the project's style, ready to be saved in several formats; narrow: its panels in one column."""
    before = _one_column.set(narrow)
    try:
        with styled():
            figure = result.draw()
            for below in list(figure.legends) if narrow else ():
                below.remove()
                handles: list[Any] = [*below.legend_handles]
                figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, handlelength=1.5)
    finally:
        _one_column.reset(before)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if axis.get_scale() == "log" and not np.isfinite(axis.get_minpos()):  # no data, hence no ticks
            (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("linear")
        elif axis.get_scale() == "log" and isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
            _short_log_ticks(axis)
    for text in _texts(figure):
        text.set_text(typeset(text.get_text()))
    return figure


@styled()
def save(figure: Figure, path: str | Path) -> list[str]:
    """Write a figure as PNG and PDF, and return the two file names."""
    path = Path(path)
    _lay_out(figure)
    for suffix in (".png", ".pdf"):
        metadata = {"CreationDate": None} if suffix == ".pdf" else None  # reproducible files
        figure.savefig(path.with_name(path.name + suffix), metadata=metadata)
    return [path.name + ".png", path.name + ".pdf"]


def _short_log_ticks(axis: XAxis | YAxis) -> None:
    """Ticks of a logarithmic axis of less than two decades at round numbers, in place of multiples of powers of ten."""
    low, high = axis.axes.get_xlim() if axis.axis_name == "x" else axis.axes.get_ylim()
    decades = abs(np.log10(high / low)) if min(low, high) > 0 else np.inf
    if decades >= 2:
        return
    subs = next(subs for least, subs in _SUBS.items() if decades >= least)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12) if subs else MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, place: typeset(f"{value:g}")))
    axis.set_minor_locator(NullLocator())


def _texts(figure: Figure) -> Iterator[Text]:
    """Titles, labels, notes and legends of a figure, all but its ticks."""
    legends: list[Legend] = [*figure.legends]
    for axes in figure.axes:
        yield from (child for child in axes.get_children() if isinstance(child, Text))
        yield from (axes.xaxis.label, axes.yaxis.label)
        legends += filter(None, [axes.get_legend()])
    for each in legends:
        yield from (each.get_title(), *each.get_texts())


def for_page(result: Result, figure: Figure) -> tuple[str, str]:
    """SVG elements of a figure for a wide and for a narrow page, the latter empty if it is narrow already."""
    if figure.get_figwidth() <= _COLUMN[0]:
        return svg(figure), ""
    return svg(figure), svg(draw_styled(result, narrow=True), salt="narrow")


@styled()
def svg(figure: Figure, salt: str = "") -> str:
    """Figure as an SVG element for the page, its colours defined by :func:`style_sheet`; names differ with the salt."""
    _lay_out(figure)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": _RC["svg.hashsalt"] + salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(_SVG_METADATA))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    variables = {colour.lower(): f"var({_name(colour)})" for colour in _DARK}
    return re.sub(r"#[0-9a-fA-F]{6}\b", lambda match: variables.get(match[0].lower(), match[0]), text)


def style_sheet() -> tuple[str, str]:
    """CSS declarations of the colours on a light and on a dark page."""
    light = "".join(f"{_name(colour)}:{colour};" for colour in _DARK)
    return light, "".join(f"{_name(colour)}:{dark};" for colour, dark in _DARK.items())


def _name(colour: str) -> str:
    return f"--{colour[1:].lower()}"


def _lay_out(figure: Figure) -> None:
    """Fix the layout once for all formats, with titles wrapped that are too long for their panel."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        for _ in range(_WRAPS):
            if not any([_break_title(figure, axes) for axes in figure.axes]):
                break
            figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _break_title(figure: Figure, axes: Axes) -> bool:
    """Wrap a panel's title, not within formulas, if it overlaps the next panel or leaves the figure."""
    text = axes.get_title(loc="left")
    titles = [item for item in axes.findobj(Text) if isinstance(item, Text) and text and item.get_text() == text]
    if not titles:
        return False
    extent, place = titles[0].get_window_extent(), axes.get_window_extent()
    right = [figure.bbox.x1]  # left edges of the panels to the right
    for other in figure.axes:
        its, around = other.get_window_extent(), other.get_tightbbox()
        if around and other.get_title(loc="left") and its.x0 > place.x1 and its.y0 < place.y1 and its.y1 > place.y0:
            right.append(around.x0)
    room = min(right) - extent.x0
    if extent.width <= room:
        return False
    whole = re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", "\0"), text).replace(" = ", "\0=\0")
    letters = max(8, int(max(map(len, text.split("\n"))) * room / extent.width) - 1)
    lines = textwrap.wrap(whole, letters, break_long_words=False, break_on_hyphens=False)
    axes.set_title("\n".join(lines).replace("\0", " "))
    return True
