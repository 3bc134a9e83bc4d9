"""Jumps of E where particles change places in depth."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.switch_jumps import Switching, order_switching
from wgflow.report.wording import share
from wgflow.studies.requirements import of_members, unmet
from wgflow.study.grid import RunPlan
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

BELOW = Claim(
    "jumps_below_descent", "largest sum of a run's jumps over its descent", "<", "",
    holds="the jumps of every run that descends add up to less than its descent: to {runs} of it, in the median over "
    "the runs of one N to {medians}",
    fails="the jumps of some run that descends add up to its descent or more: to {runs} of it, in the median over the "
    "runs of one N to {medians}",
    unknown="no run has a descent to compare its jumps with",
)  # fmt: skip
DESCENDS = Claim(
    "switching_runs_descend", "runs whose E never falls below its start", "<=", "",
    holds="in every run E falls below its start",
    fails="in {left:.0f} of {total} runs E never falls below its start",
    unknown="there are no runs",
)  # fmt: skip


class Run(NamedTuple):
    """N, flow time and loss (F,), and jumps of E of a run."""

    size: int
    s: Array
    energy: Array
    jumps: Switching

    @property
    def single(self) -> Array:
        """Sizes of the jumps in which a single pair changed places."""
        return np.asarray(np.abs(self.jumps.jump[self.jumps.pairs == 1]))

    @property
    def share(self) -> float:
        """Sum of all jumps over the descent, from E at the start to its least; NaN without a descent."""
        descent = self.energy[0] - self.energy.min()
        return float(np.abs(self.jumps.jump).sum() / descent) if descent > 0 else np.nan


def runs(work: Workspace) -> list[Run]:
    """Runs of a study that have two frames.

    Raises
    ------
    InputError
        If one was made under another scheme, or steps between its frames are missing.
    """
    found = []
    for path in work.trajectories():
        with Trajectory(path) as trajectory:
            if len(trajectory) > 1:
                series = trajectory.series("s"), trajectory.series("energy")
                found.append(Run(len(trajectory[0].tau), *series, order_switching(trajectory)))
    return found


@of_members
def gaps_at_every_step(name: str, planned: RunPlan) -> None:
    """Depth by gaps, and a frame at every step of constant length."""
    flow, depth = planned.member.flow, planned.member.depth
    every_step = flow.rule == "constant" and flow.every in (None, flow.step, {"name": "steps", "n": 1})
    if depth.name != "gaps" or not every_step:
        got = f"depth {depth.name}, rule {flow.rule}, every {flow.every}"
        raise unmet(name, "figure", "depth gaps and a frame at every step", got)


@figure("switching", runs, needs=(gaps_at_every_step,))
def switching(found: list[Run]) -> Result:
    """Jumps of E at order switches: along one run of the largest N, by size, and added up."""
    caption = (
        "Left: loss of one run, its jumps at order switches marked. Middle: jumps of E in which a single pair "
        "changed places, with medians and quartiles. Right: all jumps of a run against its whole descent, from E at "
        "the start to its least; runs that never descend have no share."
    )
    everything = np.concatenate([run.single for run in found]) if found else np.empty(0)
    if not len(everything):
        why = "no single pair of particles changed places"
        return Result(f"In this run {why}.", "", lambda: style.empty_panel(style.panels(1)[1][0], why))
    below, descends = verdicts(found)
    finding = (
        f"As one pair of blocks changes places E jumps by {np.median(everything):.1g} in the median and up to "
        f"{everything.max():.1g}; {below.sentence}" + ("." if descends.holds else f"; {descends.sentence}.")
    )
    return Result(finding, caption, lambda: _draw(found), verdicts=[below, descends])


def verdicts(found: list[Run]) -> list[Verdict]:
    """Whether the jumps of each run add up to less than its descent, and whether each run has one."""
    shares = [run.share for run in found if np.isfinite(run.share)]
    medians = _range(_medians(found).values()) if shares else ""
    below = BELOW.of_all(shares, 1.0, runs=_range(shares) if shares else "", medians=medians)
    return [below, DESCENDS(len(found) - len(shares) if found else np.nan, 0.0, total=len(found))]


def _range(shares: Collection[float]) -> str:
    low, high = share(min(shares)), share(max(shares))
    return low if low == high else f"{low} to {high}"


def _medians(found: list[Run]) -> dict[int, float]:
    """Medians of the shares by N, of runs that descend."""
    falling = [run for run in found if np.isfinite(run.share)]
    sizes = sorted({run.size for run in falling})
    return {size: float(np.median([run.share for run in falling if run.size == size])) for size in sizes}


def _draw(found: list[Run]) -> Figure:
    figure, (left, middle, right) = style.panels(3, width=4.9)
    _loss_with_jumps(left, max(found, key=lambda run: run.size if len(run.jumps.jump) else 0))
    _jump_sizes(middle, found)
    _jump_shares(right, found)
    return figure


def _loss_with_jumps(axes: Axes, run: Run) -> None:
    _, s, energy, jumps = run
    axes.plot(s, energy, color=style.GREY, lw=1.2)
    at = np.searchsorted(s, jumps.s)
    for sign, marker, colour, word in ((1, "^", style.COLOURS[1], "up"), (-1, "v", style.COLOURS[0], "down")):
        chosen = np.sign(jumps.jump) == sign
        if not chosen.any():
            continue
        label = f"{chosen.sum()} jumps {word}, {np.abs(jumps.jump[chosen]).sum():.2g} in all"
        size = 6 + 40 * np.sqrt(np.abs(jumps.jump[chosen]) / np.abs(jumps.jump).max())
        axes.scatter(jumps.s[chosen], energy[at[chosen]], marker=marker, s=size, color=colour, label=label, zorder=3)
    axes.set(xlabel="flow time $s$", ylabel="loss $E$")
    axes.legend(title="marker size: size of the jump")
    axes.set_title(f"N = {run.size}: the order changes in {share(len(jumps.jump) / (len(s) - 1))} of steps")


def _jump_sizes(axes: Axes, found: list[Run]) -> None:
    for size in sorted({run.size for run in found if len(run.single)}):
        jump = np.concatenate([run.single for run in found if run.size == size])
        spread = np.random.default_rng(size).uniform(-0.12, 0.12, len(jump))  # only to keep dots apart
        axes.scatter(size * np.exp(spread), jump, s=5, color=style.COLOURS[5], alpha=0.35, lw=0, rasterized=True)
        low, median, high = np.quantile(jump, [0.25, 0.5, 0.75])
        axes.errorbar(size, median, [[median - low], [high - median]], fmt="o", color=style.COLOURS[0], capsize=4)
    axes.set(yscale="log", ylabel=r"$|\Delta E|$ as one pair changes places")
    everything = np.concatenate([run.single for run in found])
    axes.set_title(f"Jumps of one pair: median {np.median(everything):.1g}, up to {everything.max():.1g}")
    style.particle_axis(axes, [run.size for run in found])


def _jump_shares(axes: Axes, found: list[Run]) -> None:
    medians, falling = _medians(found), [run for run in found if np.isfinite(run.share)]
    sizes, shares = [run.size for run in falling], [run.share for run in falling]
    axes.scatter(sizes, shares, s=22, color=style.COLOURS[5], label="one run")
    axes.plot(list(medians), list(medians.values()), "o-", color=style.COLOURS[0], label="median over seeds")
    axes.set(ylabel=r"$\sum |\Delta E|$ / descent of $E$", ylim=(0, None))
    if not medians:
        style.empty_panel(axes, "E never falls below its start")
        return
    axes.legend()
    axes.set_title(f"Jumps in the median: {_range(medians.values())} of the descent")
    style.particle_axis(axes, list(medians))
