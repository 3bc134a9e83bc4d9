"""Loss along s for every member, and one member's particles moving in (theta, tau)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.base.types import Array
from wgflow.base.verdict import Verdict
from wgflow.model.projections import principal_directions
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import diverged
from wgflow.report.series_change import Change, change, courses, joint_change, joint_change_brief
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

_DASH = (0, (4, 2))  # of held-out losses
_LOGARITHMIC = 0.05  # fraction below which a fallen loss is drawn on a logarithmic axis
_LINES = 64  # runs drawn one by one, which the legend keeps clear of
_LEGIBLE = 64  # particles whose paths can still be told apart in one panel
_SIGHT = 1e3  # losses above so many times 1 + E at the start are not drawn


class Run(NamedTuple):
    """A run: its file, N, flow time, loss and, if recorded, held-out loss (F,), and the change of its loss."""

    path: Path
    size: int
    s: Array
    energy: Array
    heldout: Array | None
    change: Change


def runs(work: Workspace) -> list[Run]:
    """Losses of all runs that have frames."""
    found = []
    for path in work.trajectories():
        with Trajectory(path) as trajectory:
            if len(trajectory):
                s, energy = trajectory.series("s"), trajectory.series("energy")
                heldout = trajectory.series("heldout") if "heldout" in trajectory.observables else None
                course = change(s, energy, diverged(trajectory))
                found.append(Run(path, len(trajectory[0].tau), s, energy, heldout, course))
    return found


@figure("loss_and_particles", runs, system=None)
def loss_and_particles(found: list[Run]) -> Result:
    """Loss of every member along s, and paths of particles: those of the largest N <= 64 that moved most in depth."""
    if not found:
        return Result("No run has a frame.", "", lambda: style.empty_panel(style.panels(1)[1][0], "no frames"))
    caption = (
        "Loss along flow time, and the paths of one run's particles in depth and in the first principal component of θ."
    )
    if _cut(found):
        caption += f" Losses above {_SIGHT:g} (1 + E at the start) are not drawn."
    return Result(_finding(found), caption, lambda: _draw(found), verdicts=verdicts(found))


def _drawable(values: Array) -> Array:
    """Series without values too large to be drawn, such as those before a divergence."""
    return np.where(np.isfinite(values) & (np.abs(values) <= _SIGHT * (1 + abs(values[0]))), values, np.nan)


def _cut(runs: list[Run]) -> bool:
    return any(np.isnan(_drawable(run.energy)).any() for run in runs)


def _finding(runs: list[Run]) -> str:
    """Change of the loss at the largest N, and at other N where it differs."""
    text = "; ".join(f"{subject} {joint_change(changes)}" for subject, changes in _told(runs).items())
    return f"{text[:1].upper()}{text[1:]}."


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """What the loss does at the sizes that the finding names."""
    return [verdict for subject, changes in _told(runs).items() for verdict in courses(subject, changes)]


def _told(runs: Sequence[Run]) -> dict[str, list[Change]]:
    """Changes of the loss at the largest N, and at those where the kinds of change differ from it, by subject."""
    sizes = sorted({run.size for run in runs}, reverse=True)
    changes = {size: [run.change for run in runs if run.size == size] for size in sizes}
    usual = {outcome.kind for outcome in changes[sizes[0]]}
    told = [size for size in sizes if size == sizes[0] or {each.kind for each in changes[size]} != usual]
    return {f"at N = {size} the loss": changes[size] for size in told}


def _draw(runs: list[Run]) -> Figure:
    figure, (left, right) = style.panels(2)
    sizes = sorted({run.size for run in runs})
    colour = {size: style.COLOURS[i % len(style.COLOURS)] for i, size in enumerate(sizes)}
    for run in runs[:_LINES]:
        left.plot(run.s, _drawable(run.energy), color=colour[run.size], lw=1.3)
        if run.heldout is not None:
            left.plot(run.s, _drawable(run.heldout), color=colour[run.size], lw=1.1, ls=_DASH, alpha=0.8)
    for size in sizes:
        others = [run for run in runs[_LINES:] if run.size == size]
        _draw_together(left, [(run.s, run.energy) for run in others], color=colour[size], lw=1.3)
        heldout = [(run.s, run.heldout) for run in others if run.heldout is not None]
        _draw_together(left, heldout, color=colour[size], lw=1.1, ls=[_DASH], alpha=0.8)
    largest = [run.change for run in runs if run.size == sizes[-1]]
    first, last = (np.mean([getattr(outcome, end) for outcome in largest]) for end in ("first", "last"))
    left.set(xlabel="flow time $s$", ylabel="loss $E$")
    if last < _LOGARITHMIC * first or _cut(runs):
        left.set_yscale("log")
    elif left.get_ylim()[0] >= 0 or first >= 0:
        left.set_ylim(0, None)
    alike = len({outcome.kind for outcome in largest}) == 1
    said, at = joint_change_brief(largest), f"at N = {sizes[-1]}"
    left.set_title(f"Loss {said} {at}" if alike else f"Loss {at}: {said}")
    handles = [Line2D([], [], color=colour[size], label=f"N = {size}") for size in sizes]
    if any(run.heldout is not None for run in runs):
        handles += [
            Line2D([], [], color=style.GREY, label="training"),
            Line2D([], [], color=style.GREY, ls=_DASH, label="held out"),
        ]
    left.legend(handles=handles)
    shown = ([size for size in sizes if size <= _LEGIBLE] or sizes[:1])[-1]
    with Trajectory(max((run.path for run in runs if run.size == shown), key=_depth_travelled)) as trajectory:
        paths(right, trajectory)
    return figure


def _draw_together(axes: Axes, series: Sequence[tuple[Array, Array]], **style: Any) -> None:
    """Draw losses along s as one artist."""
    if series:
        curves = [np.column_stack([s, _drawable(values)]) for s, values in series]
        axes.add_collection(LineCollection(curves, joinstyle="round", **style))
        axes.autoscale_view()


def paths(axes: Axes, trajectory: Trajectory) -> None:
    """Draw the particles' paths in depth and the first principal component of theta, coloured by flow time."""
    frames = trajectory[:]
    first = principal_directions((frame.theta for frame in frames), 1)[:, 0]
    tau, s = np.stack([frame.tau for frame in frames]), np.array([frame.s for frame in frames])
    component = np.stack([frame.theta @ first for frame in frames])  # (F, N)
    points = np.stack([tau, component], axis=2)  # (F, N, 2)
    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(list(segments), cmap="viridis", array=np.repeat(s[:-1], tau.shape[1]), lw=1.5, alpha=0.9)
    axes.add_collection(lines)
    start = {"facecolors": style.PAPER, "edgecolors": style.GREY, "label": "start"}
    axes.scatter(tau[0], component[0], s=18, lw=0.8, zorder=3, **start)  # type: ignore[arg-type]
    axes.scatter(tau[-1], component[-1], s=18, color=style.INK, zorder=4, label="end")
    axes.figure.colorbar(lines, ax=axes, label="flow time $s$", pad=0.02)
    axes.set(xlabel=r"depth $\tau$", ylabel=r"first principal component of $\theta$")
    axes.margins(x=0.03, y=0.05)
    axes.autoscale_view()
    axes.legend(loc="best", handletextpad=0.2)
    pairs = frames[-1].switches
    axes.set_title(f"{tau.shape[1]} particles; {pairs} pairs changed places" if pairs else f"{tau.shape[1]} particles")


def _depth_travelled(path: Path) -> float:
    with Trajectory(path) as trajectory:
        return float(np.abs(trajectory[-1].tau - trajectory[0].tau).sum())
