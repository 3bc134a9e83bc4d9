"""Escape from a stationary point: the loss under each transport of mass, and the time to fit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import diverged, opened
from wgflow.report.series_change import DIVERGES, change
from wgflow.report.wording import span
from wgflow.studies.requirements import varies
from wgflow.study.labels import word
from wgflow.study.workspace import Workspace

_SUPPORTS = {"full": "from full support", "point": "all particles at one point"}
EPSILON = 1e-2  # loss at which a run counts as fitted
NAMES = {"none": "motion alone", "birth_death": "birth-death", "birth": "births", "birth_death+birth": "both"}


class Run(NamedTuple):
    """Transport of mass besides motion, kind of start, flow time and loss (F,), and whether the run diverged then."""

    transport: str
    support: str
    s: Array
    energy: Array
    diverged: bool = False

    @property
    def fitted(self) -> float:
        """Flow time of the first frame with E <= :data:`EPSILON`; infinity if there is none."""
        below = np.flatnonzero(self.energy <= EPSILON)
        return float(self.s[below[0]]) if len(below) else np.inf


def runs(work: Workspace) -> list[Run]:
    """Members of a run that have frames.

    Raises
    ------
    InputError
        If there is none.
    """
    found = []
    for file, trajectory in opened(work):
        if len(trajectory):
            parts = file.values["flow.ingredients"]
            transport = NAMES.get("+".join(part["name"] for part in parts) or "none", word(parts))
            series = trajectory.series("s"), trajectory.series("energy")
            found.append(Run(transport, str(file.values["particles.support"]), *series, diverged(trajectory)))
    if not found:
        raise InputError(f"{work.folder}: expected members with frames, got none; run the study first")
    return found


def rows(runs: Sequence[Run]) -> list[Spec]:
    """End of every run and its time to fit, as plain JSON rows."""
    return [
        {
            "transport": run.transport, "support": run.support, "energy_start": float(run.energy[0]),
            "energy_end": float(run.energy[-1]), "time_to_epsilon": run.fitted, "epsilon": EPSILON,
        }
        for run in runs
    ]  # fmt: skip


@figure("escape", runs, needs=(varies("flow.ingredients", "particles.support"),))
def escape(runs: list[Run]) -> Result:
    """Loss along s for each kind of start, a colour for each transport; then the times to fit."""
    caption = (
        f"Loss along the flow, a line a seed, for every transport of mass; right, the flow time at which E is first at "
        f"most {EPSILON:g}, a marker a seed, those at the top not within the run."
    )
    return Result(_finding(runs), caption, lambda: _draw(runs), {"escape": rows(runs)})


def _chosen(runs: list[Run], transport: str, support: str) -> list[Run]:
    return [run for run in runs if (run.transport, run.support) == (transport, support)]


def _times(runs: list[Run]) -> str:
    """Sentence on the median time to reach epsilon over seeds, and on runs that did not stay below it."""
    times = np.array([run.fitted for run in runs])
    count = int(np.isfinite(times).sum())
    when = f"at s = {np.median(times):.3g}"
    if count < len(times):
        until = span((float(run.s[-1]) for run in runs), "g")
        when = f"in {count} of {len(times)} runs" if count else f"not by s = {until}"
    above = sum(np.isfinite(time) and not run.energy[-1] <= EPSILON for run, time in zip(runs, times, strict=True))
    changes = [change(run.s, run.energy, run.diverged) for run in runs]
    notes = [f"{above} above it at the end"] if above else []
    if lost := [outcome for outcome in changes if outcome.kind == DIVERGES]:
        notes.append(f"{len(lost)} {lost[0].brief}")
    return f"{when} ({', '.join(notes)})" if notes else when


def _finding(runs: list[Run]) -> str:
    """Times to epsilon, by transport, in one sentence for each kind of start."""
    sentences = []
    for support in _supports(runs):
        words = _SUPPORTS.get(support, support)
        outcomes = [
            f"{transport} {_times(chosen)}"
            for transport in _transports(runs)
            if (chosen := _chosen(runs, transport, support))
        ]
        start = words if words.startswith("from") else f"with {words} at the start"
        sentences.append(f"{start} E <= {EPSILON:g} is reached: " + ", ".join(outcomes))
    text = "; ".join(sentences)
    return text[:1].upper() + text[1:] + "."


def _transports(runs: list[Run]) -> list[str]:
    return list(dict.fromkeys(run.transport for run in runs))


def _supports(runs: list[Run]) -> list[str]:
    """Kinds of start, those with a description first."""
    there = dict.fromkeys(run.support for run in runs)
    return sorted(there, key=lambda support: [*_SUPPORTS, support].index(support))


def _draw(runs: list[Run]) -> Figure:
    supports = _supports(runs)
    figure, axes = style.panels(len(supports) + 1, width=5.0)
    colours = dict(zip(_transports(runs), itertools.cycle((style.GREY, *style.COLOURS)), strict=False))
    for panel, support in zip(axes, supports, strict=False):
        _losses(panel, runs, support, colours)
    style.legend(axes[0], loc="upper right", fontsize=9.5)
    _fits(axes[-1], runs, supports, colours)
    return figure


def _losses(axes: Axes, runs: list[Run], support: str, colours: dict[str, str]) -> None:
    for transport, colour in colours.items():
        for run in _chosen(runs, transport, support):
            wide = 3.2 if transport == NAMES["none"] else 1.3  # visible below lines that coincide with it
            axes.plot(run.s, run.energy, color=colour, lw=wide, alpha=0.8, label=transport)
    axes.axhline(EPSILON, color=style.INK, lw=0.8, ls=":", label=f"$E = {EPSILON:g}$")
    axes.set(yscale="log", xlabel="flow time $s$", ylabel="loss $E$")
    axes.set_title(_SUPPORTS.get(support, support))


def _fits(axes: Axes, runs: list[Run], supports: list[str], colours: dict[str, str]) -> None:
    top = 1.35 * max([float(run.s[-1]) for run in runs if run.s[-1] > 0], default=1.0)
    least = min((time for run in runs if (time := run.fitted) > 0), default=top)  # the axis has no 0
    for row, (transport, colour) in enumerate(colours.items()):
        for shift, support in enumerate(supports):
            times = [min(max(run.fitted, 0.7 * least), top) for run in _chosen(runs, transport, support)]
            place = row + 0.3 * (shift - 0.5 * (len(supports) - 1))
            axes.scatter(
                np.full(len(times), place), times, marker="os"[shift % 2], s=42, color=colour, alpha=0.85,
                label=_SUPPORTS.get(support, support), facecolor=colour if shift == 0 else style.PAPER,
            )  # fmt: skip
    axes.axhline(top / 1.18, color=style.GREY, lw=0.8, ls="--")
    axes.set(yscale="log", ylabel=f"flow time to $E \\leq$ {EPSILON:g}")
    axes.set_xticks(range(len(colours)), list(colours))
    axes.text(len(colours) - 0.5, top * 1.08, "not within the run", ha="right", va="bottom", color=style.GREY)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < top]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(min(least, top) / 1.8, top * 1.6)
    style.legend(axes, loc="lower left", fontsize=9.5)
    axes.set_title(f"time to $E \\leq$ {EPSILON:g}")
    axes.grid(axis="x", visible=False)
