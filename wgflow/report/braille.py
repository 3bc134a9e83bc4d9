"""Plots of a curve in the terminal, in Braille characters."""

from __future__ import annotations

import numpy as np

from wgflow.base.types import Array

_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # dots of a character by row and column


def curve(x: Array, y: Array, width: int, height: int) -> list[str]:
    """Plot y against x as lines of text; y is on a logarithmic scale if it is positive throughout.

    Parameters
    ----------
    x, y : ndarray (F,)
        Points; those that are not finite are left out.
    width, height : int
        Columns and lines available, axes included.

    Returns
    -------
    list of str
        From the top down; empty for fewer than two points.
    """
    good = np.isfinite(x) & np.isfinite(y)
    x, y = x[good], y[good]
    if len(x) < 2:
        return []
    labels = [f"{y.max():.3g}", f"{y.min():.3g}"]
    margin = max(map(len, labels)) + 1
    columns, rows = max(8, width - margin - 1), max(2, height - 2)
    heights = np.log(y) if (y > 0).all() else y
    across = np.linspace(x.min(), x.max(), 2 * columns)
    order = np.argsort(x, kind="stable")
    at = np.interp(across, x[order], heights[order])
    span = at.max() - at.min()
    down = np.rint((at.max() - at) / (span if span > 0 else 1.0) * (4 * rows - 1)).astype(int)
    cells = np.zeros((rows, columns), int)
    for k, dot in enumerate(down):
        before = down[k - 1] if k else dot  # no gaps where the curve is steep
        for row in range(min(dot, before), max(dot, before) + 1):
            cells[row // 4, k // 2] |= _DOTS[row % 4, k % 2]
    lines = []
    for row, marks in enumerate(cells):
        label = labels[0] if row == 0 else labels[1] if row == rows - 1 else ""
        lines.append(label.rjust(margin - 1) + " │" + "".join(chr(0x2800 + mark) for mark in marks))
    left, right = f"{x.min():.3g}", f"s = {x.max():.3g}"
    lines.append(" " * margin + "└" + "─" * columns)
    lines.append(" " * (margin + 1) + left + right.rjust(columns - len(left)))
    return lines
