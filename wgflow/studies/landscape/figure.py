"""Full and degenerate supports: the loss, the gradient and the descent certificate along the flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.scaling import norms
from wgflow.base.types import Array, Spec
from wgflow.report import style
from wgflow.report.figure import Drawing
from wgflow.report.member_selection import undiverged_members
from wgflow.report.series_change import FALLS, UNSETTLED, change, joint_change
from wgflow.report.wording import span
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.certificate import certificate
from wgflow.trajectory import Trajectory

_STARTS = {
    "full": "full support",
    "point": "all particles at one point",
    "origin": "all parameters 0",
}
_COLOURS = dict(zip(_STARTS, (style.COLOURS[0], style.COLOURS[1], style.COLOURS[2]), strict=True))
_MARKERS = dict(zip(_STARTS, "os^", strict=True))
_FLOOR = 1e-9  # where a gradient of 0 is drawn
_SEARCH = 32  # starts of a certificate
NEGLIGIBLE = 1e-8  # slopes down to minus this count as none


class Course(NamedTuple):
    """One member along its frames.

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


def landscape(work: Workspace) -> Drawing:
    """Loss, dissipation and certificate along s, a row of panels for each depth scheme, a colour for each support."""
    files = undiverged_members(work)
    radius = max(_farthest(file) for file in files)
    courses = [_course(file, radius) for file in files]
    caption = (
        "Loss, dissipation ∫|∇δE/δρ|² dρ and descent certificate, the least <δE/δρ, ν − ρ> over |θ| <= "
        f"{radius:.3g} ({_SEARCH} starts a frame), a line a seed. A dissipation of exactly 0 is drawn at the foot."
    )
    return Drawing(_finding(courses), caption, lambda: _draw(courses), {"landscape": _rows(courses)})


def _farthest(file: MemberFile) -> float:
    """Largest |theta_i| of a member's particles with mass: one ball for all makes the certificates comparable."""
    with Trajectory(file.path) as trajectory:
        return max(float(norms(frame.theta[frame.mass > 0]).max(initial=0.0)) for frame in trajectory)


def _course(file: MemberFile, radius: float) -> Course:
    with Trajectory(file.path) as trajectory:
        energy = trajectory.energy()
        value = [certificate(energy, frame.particles, radius, _SEARCH, s=frame.s).value for frame in trajectory]
        s, loss, dissipation = (trajectory.series(name) for name in ("s", "energy", "dissipation"))
    support, seed = str(file.values["particles.support"]), str(file.values.get("seed", ""))
    return Course(energy.depth.name, support, seed, s, loss, dissipation, np.array(value))


def _rows(courses: list[Course]) -> list[Spec]:
    """Start and end of every member."""
    return [
        {"depth": each.depth, "support": each.support, "seed": each.seed}
        | {
            f"{label}_{when}": float(getattr(each, name)[at])
            for label, name in (("energy", "energy"), ("dissipation", "dissipation"), ("certificate", "value"))
            for when, at in (("start", 0), ("end", -1))
        }
        for each in courses
    ]


def _ends(courses: list[Course], support: str, depth: str | None = None) -> list[Course]:
    return [each for each in courses if each.support == support and depth in (None, each.depth)]


def _finding(courses: list[Course]) -> str:
    """What became of each support, in one sentence."""
    parts = []
    for support in dict.fromkeys([*_STARTS, *(each.support for each in courses)]):
        chosen, words = _ends(courses, support), _STARTS.get(support, f"support {support}")
        if not chosen:
            continue
        until = span((float(each.s[-1]) for each in chosen), "g")
        rest = [float(each.dissipation[-1]) for each in chosen]
        start = f"from {words}" if support == "full" else f"with {words}"
        gradient = "is 0 exactly" if all(each == 0 for each in rest) else f"squared is {span(rest, '.1g')}"
        went = _went(chosen)
        when = f"{'by' if went.startswith(('falls', 'rises')) else 'until'} s = {until}"
        parts.append(f"{start} E {went} {when}; there the gradient {gradient} and {_slopes(chosen)}")
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in parts)


def _went(chosen: list[Course]) -> str:
    """How E went in some runs: to where if it fell in all of them."""
    changes = [change(each.s, each.energy) for each in chosen]
    if {each.kind for each in changes} == {FALLS}:
        return f"falls to {span(each.last for each in changes)}"
    return joint_change(changes)


def _slopes(chosen: list[Course]) -> str:
    """What the certificates found at the ends of some runs."""
    slope = [float(each.value[-1]) for each in chosen]
    if not any(each < -NEGLIGIBLE for each in slope):
        return "the certificate finds no direction of descent"
    return f"the certificate finds slopes of {span(slope)}"


@style.styled
def _draw(courses: list[Course]) -> Figure:
    depths = list(dict.fromkeys(each.depth for each in courses))
    figure, axes = style.panels(3, width=4.5, height=3.5, rows=len(depths))
    for row, depth in enumerate(depths):
        loss, rest, slope = axes[3 * row : 3 * row + 3]
        _lines(loss, courses, depth, "energy", "loss $E$")
        _lines(rest, courses, depth, "dissipation", r"dissipation $\int|\nabla\,\delta E/\delta\rho|^2 d\rho$")
        _lines(slope, courses, depth, "value", r"certificate $-\inf_\nu\langle\delta E/\delta\rho,\,\nu-\rho\rangle$")
        rest.set_yticks([_FLOOR, *10.0 ** np.arange(-6, 1, 2)], ["0", *(f"$10^{{{k}}}$" for k in range(-6, 1, 2))])
        loss.set_title(f"{depth}: {_verdict(courses, depth)}")
        rest.set_title(f"{depth}: has it come to rest?")
        slope.set_title(f"{depth}: is anything left to gain?")
    axes[0].legend(loc="lower left", fontsize=9.5)
    return figure


def _verdict(courses: list[Course], depth: str) -> str:
    full = _ends(courses, "full", depth)
    others = [each for each in courses if each.depth == depth and each.support != "full"]
    fell = {change(each.s, each.energy).kind for each in full} == {FALLS}
    moving = any(change(each.s, each.energy).kind == UNSETTLED or _falling(each) for each in others)
    if not full or not others or not fell or moving:
        return "loss along the flow"
    highest, least = (pick(float(each.energy[-1]) for each in of) for pick, of in ((max, full), (min, others)))
    return f"down to {highest:.1g}, or stuck at {least:.1g}" if highest < least else "loss along the flow"


def _falling(course: Course) -> bool:
    """Whether E still falls, by more than a tenth, over the last quarter of s."""
    late = course.energy[course.s >= 0.75 * course.s[-1]]
    return bool(late[-1] < 0.9 * late[0])


def _lines(axes: Axes, courses: list[Course], depth: str, name: str, label: str) -> None:
    known: set[str] = set()
    for each in courses:
        if each.depth != depth:
            continue
        values = np.maximum(np.abs(getattr(each, name)), _FLOOR)
        colour, marker = _COLOURS.get(each.support, style.GREY), _MARKERS.get(each.support, "D")
        said = _STARTS.get(each.support, each.support) if each.support not in known else None
        axes.plot(each.s, values, marker=marker, ms=3.5, lw=1.2, color=colour, alpha=0.8, label=said)
        known.add(each.support)
    axes.set(yscale="log", xlabel="flow time $s$", ylabel=label)
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    last = max(float(each.s[-1]) for each in courses) or 1.0
    ticks = [0, *(10**k for k in range(6) if 10**k <= last)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(-0.05, 1.1 * last)
