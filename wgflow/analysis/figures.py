"""Figures by name, each a function of a run's folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from wgflow.analysis import style
from wgflow.analysis.switching import Switching, order_switching
from wgflow.errors import InputError
from wgflow.trajectory import Trajectory
from wgflow.types import Array
from wgflow.workspace import Workspace

_LOGARITHMIC = 0.05  # fraction below which a fallen loss is drawn on a logarithmic axis
_LEGIBLE = 64  # particles whose paths can still be told apart in one panel


@style.styled
def loss_and_particles(work: Workspace) -> Figure:
    """Loss along s for every member, and one member's particles moving in (theta, tau).

    Left: training loss (solid) and held-out loss (dashed, if recorded), one colour for each N. Right: paths of the
    particles of one member, among those with the largest N <= 64 (more would not be told apart) the one that moved most
    in depth, against the first principal component of theta.
    """
    members = [trajectory for trajectory in map(Trajectory, _paths(work)) if len(trajectory)]
    figure, (left, right) = style.panels(2)
    if not members:
        return _nothing(left, "no member has a frame")
    sizes = sorted({len(trajectory[0].tau) for trajectory in members})
    colour = {size: style.COLOURS[i % len(style.COLOURS)] for i, size in enumerate(sizes)}
    for trajectory in members:
        s, size = trajectory.series("s"), len(trajectory[0].tau)
        left.plot(s, _drawable(trajectory.series("energy")), color=colour[size], lw=1.3)
        if "heldout" in trajectory.observables:
            left.plot(s, _drawable(trajectory.series("heldout")), color=colour[size], lw=1.1, ls=(0, (4, 2)), alpha=0.8)
    largest = [trajectory for trajectory in members if len(trajectory[0].tau) == sizes[-1]]
    first, last = (float(np.mean([trajectory[i].energy for trajectory in largest])) for i in (0, -1))
    left.set(xlabel="flow time $s$", ylabel="loss $E$")
    if last < _LOGARITHMIC * first:
        left.set_yscale("log")
    else:
        left.set_ylim(0, None)
    left.set_title(f"Loss falls from {first:.2g} to {last:.2g} at N = {sizes[-1]}")
    handles = [Line2D([], [], color=colour[size], label=f"N = {size}") for size in sizes]
    if any("heldout" in trajectory.observables for trajectory in members):
        handles += [
            Line2D([], [], color=style.GREY, label="training"),
            Line2D([], [], color=style.GREY, ls=(0, (4, 2)), label="held out"),
        ]
    left.legend(handles=handles)
    legible = [size for size in sizes if size <= _LEGIBLE] or sizes[:1]
    candidates = [trajectory for trajectory in members if len(trajectory[0].tau) == legible[-1]]
    paths(right, max(candidates, key=_depth_travelled))
    for trajectory in members:
        trajectory.close()
    return figure


def paths(axes: Axes, trajectory: Trajectory) -> None:
    """Draw the particles' paths in depth and the first principal component of theta, coloured by flow time."""
    frames = trajectory[:]
    theta = np.stack([frame.theta for frame in frames])  # (F, N, P)
    tau, s = np.stack([frame.tau for frame in frames]), np.array([frame.s for frame in frames])
    component = _principal(theta.reshape(-1, theta.shape[2])).reshape(tau.shape)  # (F, N)
    points = np.stack([tau, component], axis=2)  # (F, N, 2)
    segments = np.stack([points[:-1], points[1:]], axis=2).reshape(-1, 2, 2)
    lines = LineCollection(list(segments), cmap="viridis", array=np.repeat(s[:-1], tau.shape[1]), lw=1.5, alpha=0.9)
    axes.add_collection(lines)
    axes.scatter(tau[0], component[0], s=18, facecolors="white", edgecolors=style.GREY, lw=0.8, zorder=3, label="start")
    axes.scatter(tau[-1], component[-1], s=18, color="#222222", zorder=4, label="end")
    axes.figure.colorbar(lines, ax=axes, label="flow time $s$", pad=0.02)
    axes.set(xlabel=r"depth $\tau$", ylabel=r"first principal component of $\theta$")
    axes.margins(x=0.03, y=0.05)
    axes.autoscale_view()
    axes.legend(loc="best", handletextpad=0.2)
    pairs = frames[-1].switches
    axes.set_title(f"{tau.shape[1]} particles; {pairs} pairs changed places" if pairs else f"{tau.shape[1]} particles")


def _paths(work: Workspace) -> list[Path]:
    found = [member.path for member in work.members()]
    if not found:
        raise InputError(f"{work.folder}: expected at least one trajectory, got none; run the study first")
    return found


def _drawable(values: Array) -> Array:
    """Series without what would stretch the axis out of sight: a divergence's last numbers."""
    return np.where(np.isfinite(values) & (np.abs(values) <= 1e3 * (1 + abs(values[0]))), values, np.nan)


def _nothing(axes: Axes, why: str) -> Figure:
    """Say in the figure why it is empty."""
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _depth_travelled(trajectory: Trajectory) -> float:
    return float(np.abs(trajectory[-1].tau - trajectory[0].tau).sum())


def _principal(rows: Array) -> Array:
    """First principal component of rows (n, P), (n,); its sign makes the largest loading positive."""
    centred = rows - rows.mean(axis=0)
    scale = np.abs(centred).max() or 1.0  # a divergence's last state must not overflow
    _, vectors = np.linalg.eigh((centred / scale).T @ (centred / scale))
    axis = vectors[:, -1]
    return np.asarray(centred @ (axis * np.sign(axis[np.argmax(np.abs(axis))])))


@style.styled
def switching(work: Workspace) -> Figure:
    """Jumps of E where particles change places in depth.

    Left: loss along s of one member of the largest N, its jumps marked by direction. Middle: sizes of the jumps in
    which a single pair changed places, against N, with medians and quartiles. Right: all jumps of a member added up,
    as a fraction of its descent, against N, with the medians over seeds.
    """
    found: list[tuple[int, float, Switching]] = []  # N, descent, jumps
    paths_drawn: list[Path] = []
    for path in _paths(work):
        with Trajectory(path) as trajectory:
            if not len(trajectory):
                continue
            energy = trajectory.series("energy")
            paths_drawn.append(path)
            found.append((len(trajectory[0].tau), energy[0] - energy.min(), order_switching(trajectory)))
    figure, (left, middle, right) = style.panels(3, width=4.9)
    if not any((jumps.pairs == 1).any() for _, _, jumps in found):
        return _nothing(left, "no single pair of particles changed places")
    shown = int(np.argmax([size if len(jumps.jump) else 0 for size, _, jumps in found]))
    with Trajectory(paths_drawn[shown]) as trajectory:
        _loss_with_jumps(left, trajectory, found[shown][2])
    _jump_sizes(middle, [(size, np.abs(jumps.jump[jumps.pairs == 1])) for size, _, jumps in found])
    _jump_shares(right, [(size, float(np.abs(jumps.jump).sum() / descent)) for size, descent, jumps in found])
    return figure


def _loss_with_jumps(axes: Axes, trajectory: Trajectory, jumps: Switching) -> None:
    s, energy = trajectory.series("s"), trajectory.series("energy")
    axes.plot(s, energy, color=style.GREY, lw=1.2)
    at = np.searchsorted(s, jumps.s)
    for sign, marker, colour, word in ((1, "^", style.COLOURS[1], "up"), (-1, "v", style.COLOURS[0], "down")):
        chosen = np.sign(jumps.jump) == sign
        label = f"{chosen.sum()} jumps {word}, {np.abs(jumps.jump[chosen]).sum():.2g} in all"
        size = 6 + 40 * np.sqrt(np.abs(jumps.jump[chosen]) / np.abs(jumps.jump).max())
        axes.scatter(jumps.s[chosen], energy[at[chosen]], marker=marker, s=size, color=colour, label=label, zorder=3)
    axes.set(xlabel="flow time $s$", ylabel="loss $E$")
    axes.legend(title="marker size: size of the jump")
    axes.set_title(f"N = {len(trajectory[0].tau)}: the order changes in {len(jumps.jump) / (len(s) - 1):.0%} of steps")


def _jump_sizes(axes: Axes, sizes: list[tuple[int, Array]]) -> None:
    for size in sorted({size for size, jump in sizes if len(jump)}):
        jump = np.concatenate([jump for each, jump in sizes if each == size])
        spread = np.random.default_rng(size).uniform(-0.12, 0.12, len(jump))  # only to keep dots apart
        axes.scatter(size * np.exp(spread), jump, s=5, color=style.COLOURS[5], alpha=0.35, lw=0)
        low, median, high = np.quantile(jump, [0.25, 0.5, 0.75])
        axes.errorbar(size, median, [[median - low], [high - median]], fmt="o", color=style.COLOURS[0], capsize=4)
    axes.set(yscale="log", ylabel=r"$|\Delta E|$ as one pair changes places")
    everything = np.concatenate([jump for _, jump in sizes])
    axes.set_title(f"Jumps of one pair: median {np.median(everything):.1g}, up to {everything.max():.1g}")
    _particle_axis(axes, [size for size, _ in sizes])


def _jump_shares(axes: Axes, shares: list[tuple[int, float]]) -> None:
    sizes = sorted({size for size, _ in shares})
    medians = [float(np.median([share for each, share in shares if each == size])) for size in sizes]
    axes.scatter(
        [size for size, _ in shares], [share for _, share in shares], s=22, color=style.COLOURS[5], label="one member"
    )
    axes.plot(sizes, medians, "o-", color=style.COLOURS[0], label="median over seeds")
    axes.set(ylabel=r"$\sum |\Delta E|$ / descent of $E$", ylim=(0, None))
    axes.legend()
    axes.set_title(f"Jumps add up to {min(medians):.0%} to {max(medians):.0%} of the descent")
    _particle_axis(axes, sizes)


def _particle_axis(axes: Axes, sizes: list[int]) -> None:
    axes.set(xscale="log", xlabel="particles $N$")
    axes.set_xticks(sorted(set(sizes)), [str(size) for size in sorted(set(sizes))])
    axes.minorticks_off()


EVERY_STEP_OF_GAPS = ("switching",)  # figures of runs under Gaps that recorded every step
FIGURES: dict[str, Callable[[Workspace], Figure]] = {"loss_and_particles": loss_and_particles, "switching": switching}


def redraw(name: str, arguments: list[str]) -> list[str]:
    """Draw a figure of a run from its trajectories: what the scripts in ``analysis/`` do.

    Parameters
    ----------
    name : str
        A name in ``FIGURES``.
    arguments : list of str
        Run folder, and optionally the folder to write to, by default the run's own.

    Returns
    -------
    list of str
        Names of the files written.

    Raises
    ------
    InputError
        If there are no such arguments.
    """
    if len(arguments) not in (1, 2):
        raise InputError(f"expected RUN_FOLDER [OUT_FOLDER], got {len(arguments)} arguments")
    return style.save(FIGURES[name](Workspace(arguments[0])), Path(arguments[-1]) / name)
