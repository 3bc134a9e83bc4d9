"""Full and degenerate supports: the loss, the gradient and the descent certificate along the flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.scaling import norms
from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import undiverged_members
from wgflow.report.series_change import FALLS, change, joint_change
from wgflow.report.wording import span
from wgflow.studies.requirements import varies
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.certificate import certificate
from wgflow.trajectory import Trajectory

_LOOKS = {  # of a start: description, colour, marker
    "full": ("full support", style.COLOURS[0], "o"),
    "point": ("all particles at one point", style.COLOURS[1], "s"),
    "origin": ("all parameters 0", style.COLOURS[2], "^"),
}
_FLOOR = 1e-9  # where a gradient of 0 is drawn
NEGLIGIBLE = 1e-8  # slopes above minus this count as zero
DESCENDS = Claim(
    "certificates_descend", "the flattest of these slopes", "<", "minus what counts as 0",
    holds="the certificate finds slopes of {span}",
    fails="the certificate finds descent {where}, which does not exclude it",
    unknown="the certificate finds no finite slope",
)  # fmt: skip
STUCK = Claim(
    "degenerate_stays_above", "largest E at the end from full support", "<", "least E at the end from other starts",
    holds="{left:.1g} from full support, else {right:.1g} or more",
    fails="full support ends at {left:.1g}, others at {right:.1g}",
    unknown="loss along the flow",
)  # fmt: skip
_SEARCH = 32  # starts of a certificate


class Run(NamedTuple):
    """A run along its frames.

    Attributes
    ----------
    depth, support, seed : str
        Scheme, kind of start, and seed of it.
    s, energy, dissipation, value : ndarray (F,)
        Flow time, E, -dE/ds, and the certificate's <dE/drho, nu - rho>.
    """

    depth: str
    support: str
    seed: str
    s: Array
    energy: Array
    dissipation: Array
    value: Array


class Landscape(NamedTuple):
    """Runs, and the common bound on |theta| that makes their certificates comparable."""

    radius: float
    runs: list[Run]


def runs(work: Workspace) -> Landscape:
    """Members that did not diverge.

    Raises
    ------
    InputError
        If there is none.
    """
    files = undiverged_members(work)
    radius = max(_farthest(file) for file in files)
    return Landscape(radius, [_run(file, radius) for file in files])


def _farthest(file: MemberFile) -> float:
    """Largest |theta_i| of a member's particles with mass."""
    with Trajectory(file.path) as trajectory:
        return max(float(norms(frame.theta[frame.mass > 0]).max(initial=0.0)) for frame in trajectory)


def _run(file: MemberFile, radius: float) -> Run:
    with Trajectory(file.path) as trajectory:
        energy = trajectory.energy()
        value = [certificate(energy, frame.particles, radius, _SEARCH, s=frame.s).value for frame in trajectory]
        s, loss, dissipation = (trajectory.series(name) for name in ("s", "energy", "dissipation"))
    support, seed = str(file.values["particles.support"]), str(file.values.get("seed", ""))
    return Run(energy.depth.name, support, seed, s, loss, dissipation, np.array(value))


def rows(runs: Sequence[Run]) -> list[Spec]:
    """Start and end of every member, as plain JSON rows."""
    return [
        {"depth": run.depth, "support": run.support, "seed": run.seed}
        | {
            f"{label}_{when}": float(getattr(run, name)[at])
            for label, name in (("energy", "energy"), ("dissipation", "dissipation"), ("certificate", "value"))
            for when, at in (("start", 0), ("end", -1))
        }
        for run in runs
    ]


@figure("landscape", runs, needs=(varies("particles.support"),))
def landscape(found: Landscape) -> Result:
    """Loss, dissipation and certificate along s, a row of panels for each depth scheme, a colour for each support."""
    caption = (
        "Loss, dissipation ∫|∇δE/δρ|² dρ and descent certificate, the least <δE/δρ, ν − ρ> over |θ| <= "
        f"{found.radius:.3g} ({_SEARCH} starts a frame), a line a seed. A dissipation of exactly 0 is drawn at "
        "the foot."
    )
    by_support = [[run for run in found.runs if run.support == kind] for kind in _supports(found.runs)]
    said = [slopes(chosen) for chosen in by_support] + [ends(found.runs, depth) for depth in _depths(found.runs)]
    return Result(_finding(found.runs), caption, lambda: _draw(found.runs), {"landscape": rows(found.runs)}, said)


def _supports(runs: Sequence[Run]) -> list[str]:
    """Kinds of start, those with a description first."""
    there = dict.fromkeys(run.support for run in runs)
    return sorted(there, key=lambda support: [*_LOOKS, support].index(support))


def _depths(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.depth for run in runs))


def _finding(runs: list[Run]) -> str:
    """Outcome for each support, a sentence each."""
    parts = []
    for support in _supports(runs):
        chosen = [run for run in runs if run.support == support]
        words, *_ = _LOOKS.get(support, (f"support {support}",))
        until = span((float(run.s[-1]) for run in chosen), "g")
        rest = [float(run.dissipation[-1]) for run in chosen]
        start = f"from {words}" if support == "full" else f"with {words}"
        changes = [change(run.s, run.energy) for run in chosen]
        fell = {outcome.kind for outcome in changes} == {FALLS}
        went = f"falls to {span(outcome.last for outcome in changes)}" if fell else joint_change(changes)
        when = f"{'by' if went.startswith(('falls', 'rises')) else 'until'} s = {until}"
        slope = slopes(chosen).sentence
        parts.append(f"{start} E {went} {when}; there the gradient squared is {span(rest, '.1g')} and {slope}")
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in parts)


def slopes(chosen: Sequence[Run]) -> Verdict:
    """Whether the certificates at the ends of all of some runs find a slope steeper than what counts as zero."""
    ends = np.array([run.value[-1] for run in chosen], float)
    count = int((ends < -NEGLIGIBLE).sum())
    where = f"in {count} of {len(ends)} runs, {span(ends[ends < -NEGLIGIBLE])}" if count else "in none"
    ends = np.where(np.isfinite(ends), ends, np.nan)
    return DESCENDS.of_all(ends, -NEGLIGIBLE, span=span(ends), where=where)


def _draw(runs: list[Run]) -> Figure:
    depths = _depths(runs)
    figure, axes = style.panels(3, width=4.5, height=3.5, rows=len(depths))
    for row, depth in enumerate(depths):
        loss, rest, slope = axes[3 * row : 3 * row + 3]
        _lines(loss, runs, depth, "energy", "loss $E$")
        _lines(rest, runs, depth, "dissipation", r"dissipation $\int|\nabla\,\delta E/\delta\rho|^2 d\rho$")
        _lines(slope, runs, depth, "value", r"certificate $-\inf_\nu\langle\delta E/\delta\rho,\,\nu-\rho\rangle$")
        rest.set_yticks([_FLOOR, *10.0 ** np.arange(-6, 1, 2)], ["0", *(f"$10^{{{k}}}$" for k in range(-6, 1, 2))])
        loss.set_title(f"{depth}: {ends(runs, depth).sentence}")
        rest.set_title(f"{depth}: has it come to rest?")
        slope.set_title(f"{depth}: is anything left to gain?")
    style.legend(axes[0], loc="lower left", fontsize=9.5)
    return figure


def ends(runs: Sequence[Run], depth: str) -> Verdict:
    """Whether every run from full support ends below every other run of the scheme."""
    full, others = (
        [float(run.energy[-1]) for run in runs if run.depth == depth and (run.support == "full") == whole]
        for whole in (True, False)
    )
    if not full or not others or not np.isfinite(full + others).all():
        return STUCK(np.nan, np.nan)
    return STUCK(max(full), min(others))


def _lines(axes: Axes, runs: list[Run], depth: str, name: str, label: str) -> None:
    for run in (run for run in runs if run.depth == depth):
        start, colour, marker = _LOOKS.get(run.support, (run.support, style.GREY, "D"))
        values = np.maximum(np.abs(getattr(run, name)), _FLOOR)
        axes.plot(run.s, values, marker=marker, ms=3.5, lw=1.2, color=colour, alpha=0.8, label=start)
    axes.set(yscale="log", ylabel=label)
    style.flow_time_axis(axes, max(float(run.s[-1]) for run in runs))
