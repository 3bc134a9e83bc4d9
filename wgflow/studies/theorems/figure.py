"""The theorems along one run: balance, stationarity, rate and decay of E, kernels, support, certificates, adjoint."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgflow.base.types import Array, Spec
from wgflow.report import style
from wgflow.report.decay_diagnostics import BY_DEPTH, CONDITIONAL, WHOLE, decay_table
from wgflow.report.figure import Result, TableText, figure
from wgflow.report.member_selection import representative
from wgflow.report.theorem_diagnostics import TheoremDiagnostics, theorem_diagnostics
from wgflow.report.wording import counted, number, share
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

_BLUE, _ORANGE, _GREEN = style.COLOURS[:3]
_LEAST = 1e-12  # of the adjoint's panel
_SYMBOLS = {
    WHOLE: r"$2\lambda_{\min}(\Theta)/M$",
    BY_DEPTH: r"$2\Sigma_k\lambda_{\min}(\Theta_k)/M$",
    CONDITIONAL: r"$2\Sigma_k\lambda_{\min}(K_k)s_k^2/M$",
}
_HEADINGS = {  # of the page's table; other columns have the names of the file's
    "residual_theta": "residual in θ", "residual_t": "residual in depth", "force_tau": "force in τ of Algorithm 1",
    "support_ratio": "support score", "iid": "coverage of iid samples", "separation": "smallest separation",
    "tau_from_uniform": "distance of τ from uniform", "travelled_exact": "W2 from the start",
    "travelled_sliced": "sliced W2 from the start", "certificate": "steepest slope of E", "radius": "within |θ| ≤",
}  # fmt: skip


def diagnostics(work: Workspace) -> tuple[TheoremDiagnostics, str]:
    """Diagnostics of the representative member, which take up to a minute, and its name."""
    with Trajectory(representative(work)) as trajectory:
        return theorem_diagnostics(trajectory), trajectory.path.stem


def _words(rows: Sequence[Spec]) -> list[Spec]:
    return [{_HEADINGS.get(key, key): value for key, value in row.items()} for row in rows]


TABLES = {
    "theorems": TableText("Theorems along the run", _words),
    "decay": TableText("Decay of E: lower bounds of dissipation/E from the tangent kernels"),
}


@figure("theorems", diagnostics, tables=TABLES)
def theorems(reduced: tuple[TheoremDiagnostics, str]) -> Result:
    """Eight panels of the diagnostics of a run, given with its name."""
    found, label = reduced
    other = f" and for what is no descent ({', '.join(found.other_terms)})" if found.other_terms else ""
    caption = (
        f"The theorems along {label}. Balance: E(0) − E(s) and the dissipation integrated over the frames; they "
        f"agree where the flow is resolved, but for jumps at order switches{other}. Stationarity: ∫|∇δE/δρ|²dρ, "
        "in θ and in depth. Rate: dissipation/E, −d log E/ds between frames "
        "(intervals in which E rises are left out), and lower bounds of the first from the tangent kernels, which are "
        "computed without the gradient of E: of the whole network, Θ, of each layer's outputs, Θₖ, and of each layer's "
        "states, Kₖ, with the singular values s of the adjoint transport (the Polyak-Łojasiewicz inequality of "
        "Barboni, Peyré and Vialard); bounds that are 0 are not drawn. Decay: E, its upper bound "
        "E(0) exp(−∫2λ_min(Θ)/M ds), and E of the flow linearised at the first frame. Kernels: smallest eigenvalue "
        "by layer, those of Kₖ dashed. "
        "Support: coverage, directions of θ and smallest spread in any direction, each over that of as many iid draws "
        "of the initial law. Certificate: the steepest slope of E found towards another measure on one ball |θ| ≤ R; "
        "hollow where none was found. Adjoint: E|p(t)|²/E|p(1)|² at the start and the end of the run and its "
        "bounds, the continuum's dashed."
    )
    tables = {"theorems": rows(found), "decay": decay_table(found.decay), "assumptions": panel(found)}
    searched = [found.certificates[-1].searched]
    return Result(found.verdict, caption, lambda: _draw(found), tables, found.verdicts, searched)


def rows(found: TheoremDiagnostics) -> list[Spec]:
    """Numbers behind the figure, a row for each frame that was measured."""
    certified = dict(zip(found.certified.tolist(), found.certificates, strict=True))
    measured = zip(found.s.tolist(), found.residual, found.support, found.distance, strict=True)
    out = []
    for s, residual, support, travelled in measured:
        row: Spec = {"s": s, "residual_theta": residual.theta, "residual_t": residual.t, "force_tau": residual.force}
        row |= {"support_ratio": support.ratio, "coverage": support.coverage.value, "iid": support.coverage.iid}
        row |= {"covering_radius": support.covering.value, "separation": support.separation.value}
        row |= {"tau_from_uniform": support.tau.value, f"travelled_{found.distance_method}": travelled}
        if s in certified:
            row |= {"certificate": certified[s].value, "radius": certified[s].radius}
        out.append(row)
    return out


def panel(found: TheoremDiagnostics) -> list[Spec]:
    """Assumptions of the theorems with verdicts."""
    return [
        {"assumption": one.name, "verdict": one.verdict, "what was done": one.sentence, "source": one.source}
        for one in found.assumptions
    ]


def _draw(found: TheoremDiagnostics) -> Figure:
    figure, axes = style.panels(4, width=4.0, height=3.5, rows=2)
    drawn = _balance, _residual, _rate, _decay, _support, _certificates, _adjoint, _kernels
    for axis, draw in zip(axes, drawn, strict=True):
        axis.set_xlabel("flow time $s$")
        draw(axis, found)
    return figure


def _balance(axes: Axes, found: TheoremDiagnostics) -> None:
    axes.plot(found.balance.s, found.balance.drop, color=_BLUE, label="$E(0) - E(s)$")
    axes.plot(found.balance.s, found.balance.dissipated, color=_ORANGE, ls="--", label="dissipated")
    if np.abs(found.balance.at_switches[-1]) > 0.01 * np.abs(found.balance.drop).max():
        axes.plot(found.balance.s, -found.balance.at_switches, color=style.GREY, lw=1.1, label="jumps at switches")
    axes.set_ylabel("energy")
    axes.set_title(_balanced(found))
    axes.legend(fontsize=9)


def _balanced(found: TheoremDiagnostics) -> str:
    """Defect of the energy balance relative to the largest change of E, and whether E descends."""
    if found.other_terms:
        return f"Balance of the flow alone, without {', '.join(found.other_terms)}"
    drop, defect = found.balance.drop, found.balance.relative
    if not np.isfinite(defect):
        return "Balance: E does not change"
    what = "the descent" if np.abs(drop).max() == drop.max() else "the rise of E"
    return f"Balance: defect {share(defect, 2 if defect < 0.01 else 0)} of {what}"


def _residual(axes: Axes, found: TheoremDiagnostics) -> None:
    series = {"in $\\theta$": [one.theta for one in found.residual], "in depth": [one.t for one in found.residual]}
    for (name, values), colour in zip(series.items(), (_BLUE, _ORANGE), strict=True):
        if np.nanmax([0.0, *values]) > 0:
            axes.plot(found.s, _positive(values), color=colour, label=name)
    axes.set(yscale="log", ylabel=r"$\int|\nabla\delta E/\delta\rho|^2\,d\rho$")
    axes.set_title(f"Stationarity residual {number(found.residual[-1].total, '.1e')} at the end")
    if len(axes.lines) > 1:
        axes.legend()


def _rate(axes: Axes, found: TheoremDiagnostics) -> None:
    decay, rate = found.decay, found.rate
    axes.plot(rate.middle, _positive(rate.decay), ".", ms=3.5, color=style.GREY, label=r"$-d\log E/ds$")
    axes.plot(rate.s, _positive(rate.ratio), color=style.INK, lw=1.1, label="dissipation/E")
    for bound, colour in zip(decay.bounds, (_BLUE, _ORANGE, _GREEN), strict=False):
        if np.nanmax(bound.bound, initial=0.0) > 0:
            axes.plot(bound.s, _positive(bound.bound), color=colour, label=_SYMBOLS[bound.formula])
    axes.set(yscale="log", ylabel="rate of decay")
    axes.set_title(_rated(found))
    _legend_above(axes)


def _rated(found: TheoremDiagnostics) -> str:
    """Whether the bounds of the rate hold, and in how many intervals E rises."""
    whole, rises = found.decay.whole, int((found.rate.decay < 0).sum())
    tail = f"; E rises in {counted(rises, len(found.rate.decay))}" if rises else ""
    if whole is None:
        return f"Rate, no bound computed{tail}"
    violated = [int(bound.violated.sum()) for bound in found.decay.bounds]
    if any(violated):
        return f"Rate below a bound at {max(violated)} frames{tail}"
    return f"Rate above its bounds{tail}" if whole.bound.any() else f"Rate, bound vacuous{tail}"


def _decay(axes: Axes, found: TheoremDiagnostics) -> None:
    axes.plot(found.rate.s, _positive(found.rate.above), color=style.INK, label="$E$")
    axes.set(yscale="log", ylabel="$E$", title="Decay of E, no bound computed")
    if (whole := found.decay.whole) is not None:
        axes.plot(whole.s, _positive(whole.predicted), color=_BLUE, label=r"bound from $\Theta$")
        axes.plot(whole.s, _positive(found.decay.frozen), color=_ORANGE, ls="--", lw=1.1, label="linearised flow")
        above = int(whole.exceeded.sum())
        vacuous = "Decay of E: its bound is vacuous" if not whole.bound.any() else "E stays below its bound"
        axes.set_title(f"E exceeds its bound at {above} frames" if above else vacuous)
    axes.legend()


def _kernels(axes: Axes, found: TheoremDiagnostics) -> None:
    for (name, kernels), colour in zip(found.decay.profiles.items(), (_ORANGE, _BLUE), strict=False):
        t = (np.arange(len(kernels.outputs)) + 0.5) / len(kernels.outputs)
        for values, dashes, of in ((kernels.outputs, "-", r"$\Theta_k$"), (kernels.states, "--", "$K_k$")):
            if np.nanmax(values, initial=0.0) > 0:
                axes.plot(t, _positive(values), dashes, marker=".", ms=3.5, color=colour, label=f"{of}, {name}")
    axes.set_xlabel("layer, as depth $t$")
    axes.set_title("Smallest eigenvalues by layer")
    if axes.lines:
        axes.set(yscale="log", ylabel=r"$\lambda_{\min}$")
        _legend_above(axes)
    else:
        singular = f"Singular in all layers: {found.decay.ranks}" if found.decay.profiles else found.decay.reason
        style.empty_panel(axes, textwrap.fill(singular, 36))


def _support(axes: Axes, found: TheoremDiagnostics) -> None:
    series = {
        "coverage": [support.coverage.ratio for support in found.support],
        r"directions of $\theta$": [one.directions["theta"].ratio for one in found.support if one.directions],
        "smallest spread": [support.thinnest.ratio for support in found.support],
    }
    for (name, values), colour in zip(series.items(), style.COLOURS, strict=False):
        if len(values) == len(found.s):
            axes.plot(found.s, values, color=colour, label=name)
    axes.axhline(1.0, color=style.INK, lw=0.9, ls=":")
    axes.set_ylim(0, max(1.1, 1.05 * max(axes.get_ylim()[1], 0.0)))
    axes.set_ylabel("over iid draws")
    axes.set_title(f"Support score: {share(found.support[-1].ratio)} of an iid sample's")
    axes.legend(loc="lower left")


def _certificates(axes: Axes, found: TheoremDiagnostics) -> None:
    slope = np.array([-certificate.value for certificate in found.certificates])
    some = np.array([certificate.descends for certificate in found.certificates])
    drawn = np.maximum(slope, found.certificates[0].tolerance)
    axes.plot(found.certified, drawn, color=_GREEN, lw=1.1)
    axes.plot(found.certified[some], drawn[some], "o", color=_GREEN, label="direction of descent found")
    if (~some).any():
        axes.plot(found.certified[~some], drawn[~some], "o", mfc=style.PAPER, mec=_GREEN, label="none found")
    axes.set(yscale="log", ylabel=r"$-\langle\delta E/\delta\rho, \nu-\rho\rangle$, best $\nu$ found")
    last = found.certificates[-1]
    short = len(last.weight) - last.converged
    doubt = f"; {short} of {len(last.weight)} minima not converged" if short else ""
    axes.set_title(f"Descent certificate, R = {last.radius:.3g}, {last.starts} starts{doubt}")
    axes.legend()


def _adjoint(axes: Axes, found: TheoremDiagnostics) -> None:
    drawn: list[Array] = []
    for (name, envelope), colour in zip(found.envelopes.items(), (_ORANGE, _BLUE), strict=True):
        lower, upper = np.clip(envelope.lower, _LEAST, None), np.clip(envelope.upper, None, 1 / _LEAST)  # no 0 there
        axes.fill_between(envelope.t, lower, upper, color=colour, alpha=0.15, lw=0)
        for bound in (envelope.smooth_lower, envelope.smooth_upper):
            axes.plot(envelope.t, np.clip(bound, _LEAST, 1 / _LEAST), color=colour, lw=0.9, ls="--")
        axes.plot(envelope.t, envelope.ratio, color=colour, label=name)
        drawn += [
            each[np.isfinite(each) & (each > 0)] for each in (envelope.ratio, envelope.lower, envelope.smooth_lower)
        ]
    least = min((float(each.min()) for each in drawn if len(each)), default=_LEAST)
    axes.set(yscale="log", xlabel="depth $t$", ylabel=r"$E|p(t)|^2/E|p(1)|^2$")
    axes.set_ylim(bottom=max(least / 2, _LEAST))  # a lower bound of 0 ends at the axis
    axes.plot([], [], color=style.GREY, lw=0.9, ls="--", label="continuum")
    axes.set_title(_bounded(found))
    axes.legend()


def _bounded(found: TheoremDiagnostics) -> str:
    """Number of the adjoint's bounds, at the start and at the end, that hold."""
    bounds = [one for when, envelope in found.envelopes.items() for one in envelope.verdicts(when)[:2]]
    known = [one.holds for one in bounds if one.holds is not None]
    return f"Adjoint: {counted(sum(known), len(known))} bounds hold" if known else "Adjoint 0 or not finite"


def _legend_above(axes: Axes) -> None:
    """Legend in two columns above the curves of a logarithmic axis."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.4)
    axes.legend(loc="upper left", ncols=2, fontsize="small", columnspacing=1.0)


def _positive(values: object) -> Array:
    """Values for a logarithmic axis, gaps where they are not positive."""
    array = np.asarray(values, float)
    return np.where(array > 0, array, np.nan)
