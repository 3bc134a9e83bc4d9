"""Leaving a stationary point: the loss under each transport of mass, and the time to fit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.analysis import style
from wgflow.analysis.drawing import Drawing
from wgflow.trajectory import Trajectory
from wgflow.types import Array, Spec
from wgflow.workspace import MemberFile, Workspace, word

EPSILON = 1e-2  # of the loss at which a run counts as fitted
_SUPPORTS = {"full": "from full support", "point": "all particles at one point"}
_NAMES = {"none": "motion alone", "birth_death": "birth-death", "birth": "births", "birth_death+birth": "both"}


class Run(NamedTuple):
    """One member.

    Attributes
    ----------
    transport, support : str
        What moves besides the particles, and the kind of start.
    s, energy : ndarray (F,)
        Flow time and loss.
    """

    transport: str
    support: str
    s: Array
    energy: Array

    def reached(self, epsilon: float) -> float:
        """Flow time at which E first was at or below epsilon, at a frame; infinity if never."""
        below = np.flatnonzero(self.energy <= epsilon)
        return float(self.s[below[0]]) if len(below) else np.inf


def escape(work: Workspace) -> Drawing:
    """Loss along s for each kind of start, a colour for each transport; then the times to fit."""
    runs = [_run(file) for file in work.members()]
    caption = (
        f"Loss along the flow, a line a seed, for every transport of mass; right, the flow time at which E first falls "
        f"to {EPSILON:g}, a marker a seed, those at the top never within the run."
    )
    return Drawing(_finding(runs), caption, lambda: _draw(runs), {"escape": _rows(runs)})


def _run(file: MemberFile) -> Run:
    parts = file.values["flow.ingredients"]
    name = "+".join(part["name"] for part in parts) or "none"
    with Trajectory(file.path) as trajectory:
        return Run(
            _NAMES.get(name, word(parts)), str(file.values["particles.support"]), trajectory.series("s"),
            trajectory.series("energy"),
        )  # fmt: skip


def _rows(runs: list[Run]) -> list[Spec]:
    """Each run's end and times."""
    return [
        {
            "transport": run.transport, "support": run.support, "energy_start": float(run.energy[0]),
            "energy_end": float(run.energy[-1]), "time_to_epsilon": run.reached(EPSILON), "epsilon": EPSILON,
        }
        for run in runs
    ]  # fmt: skip


def _chosen(runs: list[Run], transport: str, support: str) -> list[Run]:
    return [run for run in runs if (run.transport, run.support) == (transport, support)]


def _times(runs: list[Run]) -> str:
    """Median time to epsilon in words."""
    if not runs:
        return "no run"
    times = np.array([run.reached(EPSILON) for run in runs])
    if np.isinf(times).all():
        return "never"
    if np.isinf(times).any():
        return f"in {np.isfinite(times).sum()} of {len(times)} runs"
    return f"at s = {np.median(times):.3g}"


def _finding(runs: list[Run]) -> str:
    """Times to epsilon, by transport, in one sentence for each kind of start."""
    sentences = []
    for support, words in _SUPPORTS.items():
        told = [
            f"{transport} {_times(chosen)}"
            for transport in _transports(runs)
            if (chosen := _chosen(runs, transport, support))
        ]
        if told:
            start = words if words.startswith("from") else f"with {words} at the start"
            sentences.append(f"{start} E falls to {EPSILON:g}: " + ", ".join(told))
    text = "; ".join(sentences)
    return text[:1].upper() + text[1:] + "."


def _transports(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(run.transport for run in runs))


@style.styled
def _draw(runs: list[Run]) -> Figure:
    supports = [each for each in _SUPPORTS if any(run.support == each for run in runs)]
    figure, axes = style.panels(len(supports) + 1, width=5.0)
    colours = dict(zip(_transports(runs), (style.GREY, *style.COLOURS), strict=False))
    for panel, support in zip(axes, supports, strict=False):
        _losses(panel, runs, support, colours)
    axes[0].legend(loc="lower left", fontsize=9.5)
    _fits(axes[-1], runs, supports, colours)
    return figure


def _losses(axes: Axes, runs: list[Run], support: str, colours: dict[str, str]) -> None:
    for transport, colour in colours.items():
        for k, run in enumerate(_chosen(runs, transport, support)):
            wide = 3.2 if transport == _NAMES["none"] else 1.3  # so that what lies on top of it leaves it in sight
            axes.plot(run.s, run.energy, color=colour, lw=wide, alpha=0.8, label=transport if k == 0 else None)
    axes.axhline(EPSILON, color=style.INK, lw=0.8, ls=":")
    axes.set(yscale="log", xlabel="flow time $s$", ylabel="loss $E$")
    axes.set_title(_SUPPORTS[support])


def _fits(axes: Axes, runs: list[Run], supports: list[str], colours: dict[str, str]) -> None:
    top = 1.35 * max(float(run.s[-1]) for run in runs)
    for row, (transport, colour) in enumerate(colours.items()):
        for shift, support in enumerate(supports):
            times = [min(run.reached(EPSILON), top) for run in _chosen(runs, transport, support)]
            place = row + 0.3 * (shift - 0.5 * (len(supports) - 1))
            axes.scatter(
                np.full(len(times), place), times, marker="os"[shift % 2], s=42, color=colour, alpha=0.85,
                label=_SUPPORTS[support] if row == 0 else None, facecolor=colour if shift == 0 else style.PAPER,
            )  # fmt: skip
    axes.axhline(top / 1.18, color=style.GREY, lw=0.8, ls="--")
    axes.set(yscale="log", ylabel=f"flow time to $E \\leq$ {EPSILON:g}")
    axes.set_xticks(range(len(colours)), list(colours))
    axes.text(len(colours) - 0.5, top, "never", ha="right", va="center", color=style.GREY)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < top]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    least = min((run.reached(EPSILON) for run in runs), default=top)
    axes.set_ylim(min(least, top) / 1.8, top * 1.25)
    axes.legend(loc="lower left", fontsize=9.5)
    axes.set_title(f"time to $E \\leq$ {EPSILON:g}")
    axes.grid(axis="x", visible=False)
