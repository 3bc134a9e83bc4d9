"""Full and degenerate supports: the loss, the gradient and the descent certificate along the flow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.analysis import style
from wgflow.analysis.drawing import Drawing
from wgflow.errors import InputError
from wgflow.scaling import norms
from wgflow.theory.certificate import certificate
from wgflow.trajectory import Trajectory
from wgflow.types import Array, Spec
from wgflow.workspace import MemberFile, Workspace

_STARTS = {
    "full": "full support",
    "point": "all particles at one point",
    "origin": "all parameters 0",
}
_COLOURS = dict(zip(_STARTS, (style.COLOURS[0], style.COLOURS[1], style.COLOURS[2]), strict=True))
_MARKERS = dict(zip(_STARTS, "os^", strict=True))
_FLOOR = 1e-9  # where a gradient of 0 is drawn
_SEARCH = 32  # starts of a certificate


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
    files = [file for file in work.members() if _frames(file)]
    if not files:
        raise InputError(f"{work.folder}: expected members with frames, got none")
    radius = max(_farthest(file) for file in files)
    courses = [_course(file, radius) for file in files]
    caption = (
        "Loss, dissipation int |grad dE/drho|^2 drho and descent certificate inf <dE/drho, nu - rho> over |theta| <= "
        f"{radius:.3g} ({_SEARCH} starts a frame), a line a seed. A dissipation of exactly 0 is drawn at the foot."
    )
    return Drawing(_finding(courses), caption, lambda: _draw(courses), {"landscape": _rows(courses)})


def _frames(file: MemberFile) -> int:
    with Trajectory(file.path) as trajectory:
        return len(trajectory)


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
    until = max(float(each.s[-1]) for each in courses)
    parts = []
    for support, words in _STARTS.items():
        chosen = _ends(courses, support)
        if not chosen:
            continue
        energy, slope = (np.array([getattr(each, name)[-1] for each in chosen]) for name in ("energy", "value"))
        if support == "full":
            parts.append(
                f"from full support E falls to {_range(energy)} by s = {until:g}, where the certificate still finds "
                f"slopes of {_range(slope)}"
            )
            continue
        rest = max(each.dissipation[-1] for each in chosen)
        parts.append(
            f"with {words} it is at {_range(energy)} then, the gradient "
            + ("being 0 exactly" if rest == 0 else f"squared down to {rest:.1g}")
            + f", while the certificate finds slopes of {_range(slope)}"
        )
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def _range(values: Array) -> str:
    low, high = (f"{each:.2g}" for each in sorted((values.min(), values.max()), key=abs))
    return low if low == high else f"{low} to {high}"


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
    full = [each.energy[-1] for each in _ends(courses, "full", depth)]
    stuck = [each.energy[-1] for each in courses if each.depth == depth and each.support != "full"]
    if not full or not stuck:
        return "loss along the flow"
    return f"down to {max(full):.1g}, or stuck at {min(stuck):.1g}"


def _lines(axes: Axes, courses: list[Course], depth: str, name: str, label: str) -> None:
    known: set[str] = set()
    for each in courses:
        if each.depth != depth:
            continue
        values = np.maximum(np.abs(getattr(each, name)), _FLOOR)
        colour, said = _COLOURS[each.support], _STARTS[each.support] if each.support not in known else None
        axes.plot(each.s, values, marker=_MARKERS[each.support], ms=3.5, lw=1.2, color=colour, alpha=0.8, label=said)
        known.add(each.support)
    axes.set(yscale="log", xlabel="flow time $s$", ylabel=label)
    axes.set_xscale("symlog", linthresh=1.0, linscale=0.5)
    last = max(float(each.s[-1]) for each in courses)
    ticks = [0, *(10**k for k in range(6) if 10**k <= last)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(-0.05, 1.1 * last)
