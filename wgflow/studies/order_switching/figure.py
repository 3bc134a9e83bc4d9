"""Jumps of E where particles change places in depth."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.types import Array
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.switch_jumps import Switching
from wgflow.report.wording import share
from wgflow.studies.order_switching.reduce import Run, runs
from wgflow.studies.order_switching.requires import gaps_at_every_step
from wgflow.trajectory import Trajectory


@figure("switching", runs, needs=(gaps_at_every_step,))
def switching(found: list[Run]) -> Result:
    """Jumps of E at order switches: along one run, by size, and added up.

    Left: loss along s of one member of the largest N, its jumps marked by direction. Middle: sizes of the jumps in
    which a single pair changed places, against N, with medians and quartiles. Right: all jumps of a member added up,
    as a fraction of its descent, against N, with the medians over seeds.
    """
    pairs = [np.abs(jumps.jump[jumps.pairs == 1]) for *_, jumps in found]
    caption = (
        "Left: loss of one run, its jumps at order switches marked. Middle: jumps of E in which a single pair "
        "changed places, with medians and quartiles. Right: all jumps of a run against its whole descent, from E at "
        "the start to its least; runs that never descend have no share."
    )
    if not sum(map(len, pairs)):
        why = "no single pair of particles changed places"
        return Result(f"In this run {why}.", "", lambda: style.empty_panel(style.panels(1)[1][0], why))
    everything = np.concatenate(pairs)
    finding = (
        f"As one pair of blocks changes places E jumps by {np.median(everything):.1g} in the median and up to "
        f"{everything.max():.1g}; {_shares_said(found)}."
    )
    return Result(finding, caption, lambda: _draw(found))


def _shares_said(found: list[Run]) -> str:
    """Sums of the jumps, medians over seeds, and the number of runs that never descend."""
    shares, flat = _medians(_shares(found)), sum(not descent > 0 for *_, descent, _ in found)
    never = f"in {flat} of {len(found)} runs E never falls below its start" if flat else ""
    if not shares:
        return never
    said = f"the jumps of a run add up to {_range(shares)} of its descent"
    return f"{said}; {never}" if never else said


def _range(shares: dict[int, float]) -> str:
    low, high = share(min(shares.values())), share(max(shares.values()))
    return low if low == high else f"{low} to {high}"


@style.styled
def _draw(found: list[Run]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9)
    path, _, _, jumps = max(found, key=lambda run: run.size if len(run.jumps.jump) else 0)
    with Trajectory(path) as trajectory:
        _loss_with_jumps(left, trajectory, jumps)
    _jump_sizes(middle, [(size, np.abs(jumps.jump[jumps.pairs == 1])) for _, size, _, jumps in found])
    _jump_shares(right, _shares(found))
    return figure


def _shares(found: list[Run]) -> list[tuple[int, float]]:
    """N, and sum of the jumps over the descent, of runs that descend."""
    return [(size, float(np.abs(jumps.jump).sum() / descent)) for _, size, descent, jumps in found if descent > 0]


def _medians(shares: list[tuple[int, float]]) -> dict[int, float]:
    sizes = sorted({size for size, _ in shares})
    return {size: float(np.median([share for n, share in shares if n == size])) for size in sizes}


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
    axes.set_title(
        f"N = {len(trajectory[0].tau)}: the order changes in {share(len(jumps.jump) / (len(s) - 1))} of steps"
    )


def _jump_sizes(axes: Axes, sizes: list[tuple[int, Array]]) -> None:
    for size in sorted({size for size, jump in sizes if len(jump)}):
        jump = np.concatenate([jump for n, jump in sizes if n == size])
        spread = np.random.default_rng(size).uniform(-0.12, 0.12, len(jump))  # only to keep dots apart
        axes.scatter(size * np.exp(spread), jump, s=5, color=style.COLOURS[5], alpha=0.35, lw=0, rasterized=True)
        low, median, high = np.quantile(jump, [0.25, 0.5, 0.75])
        axes.errorbar(size, median, [[median - low], [high - median]], fmt="o", color=style.COLOURS[0], capsize=4)
    axes.set(yscale="log", ylabel=r"$|\Delta E|$ as one pair changes places")
    everything = np.concatenate([jump for _, jump in sizes])
    axes.set_title(f"Jumps of one pair: median {np.median(everything):.1g}, up to {everything.max():.1g}")
    style.particle_axis(axes, [size for size, _ in sizes])


def _jump_shares(axes: Axes, shares: list[tuple[int, float]]) -> None:
    medians = _medians(shares)
    axes.scatter(
        [size for size, _ in shares], [share for _, share in shares], s=22, color=style.COLOURS[5], label="one run"
    )
    axes.plot(list(medians), list(medians.values()), "o-", color=style.COLOURS[0], label="median over seeds")
    axes.set(ylabel=r"$\sum |\Delta E|$ / descent of $E$", ylim=(0, None))
    if not medians:
        style.empty_panel(axes, "E never falls below its start")
        return
    axes.legend()
    axes.set_title(f"Jumps add up to {_range(medians)} of the descent")
    style.particle_axis(axes, list(medians))
