"""Decaying regularisation E_s = E + e**(-s) int |theta|**2 drho: loss, second moment and the term along the flow.

Ding, Chen, Li and Wright (JMLR 23, 2022) follow the gradient flow of E_s. The term bounds second moments where E alone
does not, and fades, so that E itself may go to zero; a term that stays does not let it. Along the flow of any energy
E_s with dE_s/ds <= -D, D >= |d/ds sqrt(int |theta|**2 drho)|**2, so that (derived)

    sqrt(int |theta|**2 drho(s)) <= sqrt(int |theta|**2 drho(0)) + sqrt(s (E_0(0) - E_s(s))).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict
from wgflow.report import style
from wgflow.report.figure import Result, figure
from wgflow.report.member_selection import opened, reached_end
from wgflow.report.series_change import change, joint_change
from wgflow.report.wording import span
from wgflow.studies.requirements import observes, varies
from wgflow.study.schema import Member
from wgflow.study.workspace import Workspace

_LOOKS = {  # of a kind of run: description, colour, marker
    "none": ("without a term", style.COLOURS[0], "o"),
    "decaying": ("with a term that decays", style.COLOURS[1], "s"),
    "constant": ("with a term that stays", style.COLOURS[2], "^"),
}
SMALL = 1e-2  # share of its start that the loss is asked to fall below
FADED = 1e-3  # share of the loss below which a term has vanished
_ROUNDING = 1e-9
_FLOOR = 1e-8  # of its largest value, below which a term is not drawn

BOUND = Claim(
    "second_moment_bound", "√∫|θ|²dρ(s)", "<=", "√∫|θ|²dρ(0) + √(s (E_0(0) − E_s(s)))",
    holds="second moments stay below the flow's bound at every recorded frame",
    fails="second moments exceed the flow's bound: steps are too long to follow the flow",
    unknown="second moments were not compared with the flow's bound",
    rounding=_ROUNDING,
)  # fmt: skip
LOWER = Claim(
    "decaying_term_lowers_moments", "largest ∫|θ|²dρ of a run with a term that decays", "<", "without a term",
    holds="the largest second moment of a run is smaller with the decaying term than without it, for every seed",
    fails="the largest second moment of a run is not smaller with the decaying term for every seed",
    unknown="no run with a decaying term has one without it to compare with",
)  # fmt: skip
FADES = Claim(
    "regulariser_fades", "largest e^(−decay s) strength ∫|θ|²dρ over the loss, at the end", "<=", "",
    holds="{which} has vanished at the end",
    fails="{which} has not vanished at the end",
    unknown="whether {which} vanishes is not known",
)  # fmt: skip
TO_ZERO = Claim(
    "loss_falls_to_share", "largest loss at the end over that at the start {which}", "<=", "",
    holds="{which} the loss of every run ends below {right:.0%} of its start",
    fails="{which} the loss of some run ends above {right:.0%} of its start",
    unknown="{which} no loss is known",
)  # fmt: skip


class Run(NamedTuple):
    """A run along its frames.

    Attributes
    ----------
    kind : {"none", "decaying", "constant"}
        Of its term.
    seed : int
        Seed of its start.
    strength, decay : float
        Of the term strength e**(-decay s) int |theta|**2 drho.
    s, energy, moment : ndarray (F,)
        Flow time, E_s with the term, and int |theta|**2 drho.
    """

    kind: str
    seed: int
    strength: float
    decay: float
    s: Array
    energy: Array
    moment: Array

    @property
    def term(self) -> Array:
        """Regularising term, (F,)."""
        return np.asarray(self.strength * np.exp(-self.decay * self.s) * self.moment)

    @property
    def loss(self) -> Array:
        """E without the term, (F,)."""
        return np.asarray(self.energy - self.term)


def runs(work: Workspace) -> list[Run]:
    """Members that reached the end.

    Raises
    ------
    InputError
        If there is none.
    """
    found = []
    for _, trajectory in opened(work):
        if not reached_end(trajectory):
            continue
        member = Member.of(trajectory.parameters["study"])
        strength, decay = (member.regulariser.strength, member.regulariser.decay) if member.regulariser else (0.0, 1.0)
        kind = "none" if strength == 0 else "decaying" if decay > 0 else "constant"
        series = [np.asarray(trajectory.series(name), np.float64) for name in ("s", "energy", "second_moment")]
        found.append(Run(kind, member.seed, strength, decay, *series))
    if not found:
        raise InputError(f"{work.folder}: expected members that reached the end, got none; run the study first")
    return found


def verdicts(runs: Sequence[Run]) -> list[Verdict]:
    """Claims on second moments, on each kind of term, and on the loss under it."""
    left = [np.sqrt(run.moment) for run in runs]
    right = [np.sqrt(run.moment[0]) + np.sqrt(run.s * np.maximum(run.energy[0] - run.energy, 0.0)) for run in runs]
    out = [BOUND.of_all(np.concatenate(left), np.concatenate(right))]
    plain = {run.seed: float(run.moment.max()) for run in runs if run.kind == "none"}
    pairs = [(run.moment.max(), plain[run.seed]) for run in runs if run.kind == "decaying" and run.seed in plain]
    out.append(LOWER.of_all(*(zip(*pairs, strict=True) if pairs else ([], []))))
    for kind, (words, *_) in _LOOKS.items():
        mine = [run for run in runs if run.kind == kind]
        if mine and kind != "none":
            share = [_ratio(run.term[-1], run.loss[-1]) for run in mine]
            out.append(FADES.of_all(share, FADED, which=words.removeprefix("with ")))
        if mine:
            ends = [_ratio(run.loss[-1], run.loss[0]) for run in mine]
            out.append(TO_ZERO.of_all(ends, SMALL, which=words))
    return out


def _ratio(part: float, whole: float) -> float:
    """Ratio to a loss that may be 0, or below by the rounding of E_s less its term: then infinite for any part > 0."""
    return part / whole if whole > 0 else math.inf if part > 0 else 0.0


def rows(runs: Sequence[Run]) -> list[Spec]:
    """Start and end of every run, as plain JSON rows."""
    return [
        {
            "term": run.kind, "strength": run.strength, "decay": run.decay, "seed": run.seed,
            "loss_start": float(run.loss[0]), "loss_end": float(run.loss[-1]), "term_start": float(run.term[0]),
            "term_end": float(run.term[-1]), "moment_start": float(run.moment[0]),
            "moment_least": float(run.moment.min()), "moment_largest": float(run.moment.max()),
        }
        for run in runs
    ]  # fmt: skip


@figure("regularised", runs, needs=(varies("regulariser"), observes("second_moment")), particles=False)
def regularised(found: list[Run]) -> Result:
    """Loss, second moment and regularising term along s, a colour for each kind of term."""
    caption = (
        "Loss E without the term, second moment ∫|θ|² dρ, and term strength e^(−decay s) ∫|θ|² dρ of the energy E_s "
        "whose gradient flow is followed, a line a run; values below 1e-8 of the largest are cut off. Dashed: bound of "
        "the second moment under a term that decays, (√∫|θ|² dρ(0) + √(s (E_0(0) − E_s(s))))², of the run where it is "
        "largest."
    )
    said = verdicts(found)
    return Result(_finding(found, said), caption, lambda: _draw(found), {"regularised": rows(found)}, said)


def _finding(runs: Sequence[Run], said: Sequence[Verdict]) -> str:
    parts = []
    for kind, (words, *_) in _LOOKS.items():
        mine = [run for run in runs if run.kind == kind]
        if mine:
            went = joint_change([change(run.s, run.loss) for run in mine])
            largest = span(float(run.moment.max()) for run in mine)
            parts.append(f"{words} the loss {went}, and ∫|θ|² dρ is at most {largest}")
    parts += [verdict.sentence for verdict in said]
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in parts)


def _draw(runs: Sequence[Run]) -> Figure:
    figure, (loss, moment, term) = style.panels(3, width=4.7, height=3.9)
    _lines(loss, runs, "loss", "loss $E$")
    _lines(moment, runs, "moment", r"second moment $\int|\theta|^2 d\rho$")
    _lines(term, [run for run in runs if run.kind != "none"], "term", "regularising term of $E_s$")
    loss.set_title("Does the loss go to zero?")
    moment.set_title("How far do second moments grow?")
    term.set_title("Does the term vanish?")
    decaying = [run for run in runs if run.kind == "decaying"]
    if decaying:
        roots = [
            np.sqrt(run.moment[0]) + np.sqrt(run.s * np.maximum(run.energy[0] - run.energy, 0)) for run in decaying
        ]
        longest = int(np.argmax([root.max() for root in roots]))
        moment.plot(
            decaying[longest].s,
            roots[longest] ** 2,
            "--",
            color=style.GREY,
            lw=1.2,
            label="bound with a term that decays",
        )
    for axes in (loss, moment, term):
        axes.set_yscale("log")
    if (largest := max((float(run.term.max()) for run in runs), default=0.0)) > 0:
        term.set_ylim(_FLOOR * largest, 3 * largest)
    style.legend(loss, loc="lower left", fontsize=9.5)
    if decaying:
        moment.legend(handles=moment.lines[-1:], loc="upper left", fontsize=9.5)
    return figure


def _lines(axes: Axes, runs: Sequence[Run], name: str, label: str) -> None:
    for run in runs:
        words, colour, marker = _LOOKS[run.kind]
        axes.plot(run.s, getattr(run, name), marker=marker, ms=3.5, lw=1.2, color=colour, alpha=0.8, label=words)
    axes.set(ylabel=label)
    style.flow_time_axis(axes, max((float(run.s[-1]) for run in runs), default=1.0))
