"""How every figure looks, in one place: fonts, sizes, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl

mpl.use("Agg")  # figures are files here; no window, no display needed

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, dark to light in the order in which series are drawn.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#6b6b6b"

_RC: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "pdf.fonttype": 42,
}


_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Run a drawing function in the project's style, leaving Matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with mpl.rc_context(_RC):
            return draw(*args, **kwargs)

    return wrapper


@styled
def panels(count: int, width: float = 5.4, height: float = 4.1) -> tuple[Figure, list[Axes]]:
    """Figure with panels side by side, in the project's style."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", squeeze=False)
    return figure, list(axes[0])


@styled
def save(figure: Figure, path: str | Path) -> list[str]:
    """Write a figure as PNG and PDF next to each other; returns the two names."""
    path = Path(path)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is done; each format would do it again
    for suffix in (".png", ".pdf"):
        # No creation date in the file: the same numbers give the same bytes.
        figure.savefig(
            path.with_name(path.name + suffix), metadata={"CreationDate": None} if suffix == ".pdf" else None
        )
    plt.close(figure)
    return [path.name + ".png", path.name + ".pdf"]
