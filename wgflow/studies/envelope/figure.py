"""Size of the adjoint within its bounds, along depth and along training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import evenly_spaced, undiverged_members
from wgflow.report.wording import number
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.envelope import ABOVE, BELOW, Envelope, adjoint_envelope
from wgflow.trajectory import Trajectory

_CURVES = ("ratio", "lower", "upper", "smooth_lower", "smooth_upper")
_LEGIBLE = 3  # members drawn at most: the first, one in the middle, the last
_FRAMES = 25  # of each at most


class Run(NamedTuple):
    """A member, its grid values in words, with the envelope of its adjoint at some flow times."""

    label: str
    s: list[float]
    envelopes: list[Envelope]


def runs(work: Workspace) -> list[Run]:
    """Up to three members that did not diverge, the first and the last among them.

    Raises
    ------
    InputError
        If all diverged.
    """
    files = undiverged_members(work)
    return [_run(files[place]) for place in evenly_spaced(len(files), _LEGIBLE)]


def _run(file: MemberFile) -> Run:
    with Trajectory(file.path) as trajectory:
        energy, frames = trajectory.energy(), [trajectory[number] for number in evenly_spaced(len(trajectory), _FRAMES)]
    envelopes = [adjoint_envelope(energy, frame.particles) for frame in frames]
    return Run(file.label, [frame.s for frame in frames], envelopes)


def rows(members: Sequence[Run]) -> list[Spec]:
    """The first and the last frame of each member, at t = 0, as plain JSON rows."""
    return [
        {"member": member.label, "s": member.s[place]}
        | {name: float(getattr(member.envelopes[place], name)[0]) for name in _CURVES[:3]}
        | {"largest cJ": float(member.envelopes[place].norm.max())}
        for member in members
        for place in (0, -1)
    ]


@figure("envelope", runs)
def envelope(members: list[Run]) -> Result:
    """Size of the adjoint along depth and along training, with the bounds from the blocks' Jacobians."""
    caption = (
        "E|p(t)|² / E|p(1)|², the expectation over samples (line), between the bounds Π(1 − c J)² and Π(1 + c J)² "
        "over the layers above (band), J being the largest over samples of the spectral norm of a layer's Jacobian and "
        "c its step; dashed: the continuum's exp(∓2∫J), of which the lower is no bound of a network with finitely many "
        "layers. Top: along depth at the end of training. Bottom: at t = 0, along flow time."
    )
    return Result(_finding(members), caption, lambda: _draw(members), {"envelope": rows(members)}, verdicts(members))


def verdicts(members: Sequence[Run]) -> list[Verdict]:
    """Bounds of the adjoint, each where a curve is nearest to it."""
    curves = [curve for member in members for curve in member.envelopes]
    ratio, lower, upper = (np.concatenate([getattr(curve, name) for curve in curves]) for name in _CURVES[:3])
    return [ABOVE.of_all(ratio, lower, at=""), BELOW.of_all(ratio, upper, at="")]


def _finding(members: list[Run]) -> str:
    ratios = np.concatenate([curve.ratio for member in members for curve in member.envelopes])
    last = [member.envelopes[-1] for member in members]
    finite = ratios[np.isfinite(ratios)]
    if not len(finite):
        return "E|p(t)|² has no finite size over E|p(1)|² at any depth and flow time drawn."
    where = "" if len(finite) == len(ratios) else f" where it is finite, at {len(finite)} of {len(ratios)}"
    lower, upper = min(float(end.lower[0]) for end in last), max(float(end.upper[0]) for end in last)
    allowed = f"{lower:.2g} to {upper:.2g}" if np.isfinite(lower + upper) else f"{number(lower)} or more, without limit"
    below, above = verdicts(members)
    return (
        f"E|p(t)|² is {finite.min():.2g} to {finite.max():.2g} times E|p(1)|² at all depths and times drawn{where};"
        f" the blocks' Jacobians allow {allowed} at t = 0 at the end of training; {below}; {above}."
    )


def _draw(members: list[Run]) -> Figure:
    figure, axes = style.panels(len(members), width=4.9, height=3.6, rows=2)
    for above, below, member in zip(axes, axes[len(members) :], members, strict=False):
        last = member.envelopes[-1]
        _band(above, last.t, *(getattr(last, name) for name in _CURVES))
        above.set(xlabel="depth $t$", xlim=(last.t.min(), last.t.max()))
        above.set_title(f"{style.literal(member.label) or 'The end'}, $s$ = {member.s[-1]:g}")
        _band(
            below, np.array(member.s), *(np.array([getattr(e, name)[0] for e in member.envelopes]) for name in _CURVES)
        )
        below.set(xlabel="flow time $s$")
        below.set_title("At $t = 0$ along training")
    axes[0].set_ylabel(r"$E|p(t)|^2\ /\ E|p(1)|^2$")
    axes[len(members)].set_ylabel(r"$E|p(0)|^2\ /\ E|p(1)|^2$")
    axes[0].legend(fontsize=9)
    return figure


def _band(axes: Axes, x: Array, ratio: Array, lower: Array, upper: Array, below: Array, above: Array) -> None:
    """Ratio (line) in its band, the continuum's bounds dashed; a lower bound of 0 ends at the axis."""
    colour = style.COLOURS[0]
    axes.fill_between(x, lower, upper, color=style.COLOURS[5], alpha=0.3, lw=0, label="bounds, discrete")
    axes.plot(x, below, color=style.GREY, ls=(0, (5, 2)), lw=1.2, label="bounds, continuum")
    axes.plot(x, above, color=style.GREY, ls=(0, (5, 2)), lw=1.2)
    axes.plot(x, ratio, color=colour, marker="o" if len(x) <= 32 else "", ms=4, label="measured")
    seen = np.concatenate([part[np.isfinite(part) & (part > 0)] for part in (ratio, lower, below, upper, above)])
    axes.set(yscale="log")
    if len(seen):
        axes.set_ylim(max(seen.min() / 1.3, 1e-300), min(seen.max() * 1.3, 1e300))
