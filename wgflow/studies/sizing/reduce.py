"""Sizes that meet a target P(E > eps) <= eta: observed, predicted by a fitted law, and sufficient by a theorem.

Observations are those of :mod:`wgflow.stats.exceedance`, predictions those of :mod:`wgflow.stats.extrapolation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.base.validate import real
from wgflow.report.figure import cached
from wgflow.report.member_selection import diverged, reached_end
from wgflow.report.wording import interval, number
from wgflow.stats.convergence_rates import Interval
from wgflow.stats.exceedance import FailureRates, PhaseDiagram, check_target, failure_rates, phase_diagram
from wgflow.stats.extrapolation import EnergyModel, failure_probability, fit_asymptotic_range, fit_energy_model
from wgflow.stats.scaling_laws import Sizes, tabulate
from wgflow.study.schema import Member
from wgflow.study.workspace import Workspace
from wgflow.trajectory import Trajectory

NO_TARGET = (
    "target: expected eps and eta to draw 'sizing', got none; run the study with --set target.eps=0.05 "
    "--set target.eta=0.1"
)
BEYOND = 4.0
MISFIT = 2.0  # misfit in standard errors up to which a model is used for predictions
_CANDIDATES = 300  # sizes tried along L and along M_l: every one up to about 60, then steps of 2%


class Size(NamedTuple):
    """A size with its predicted failure probability.

    Attributes
    ----------
    depth, width : int
        L and M_l.
    probability : Interval
        P(E > eps) there.
    beyond_depth, beyond_width : float
        L and M_l over the largest on the grid, and 1 for sizes inside it.
    """

    depth: int
    width: int
    probability: Interval
    beyond_depth: float
    beyond_width: float

    def __str__(self) -> str:
        far = f"extrapolated by a factor {self.beyond_depth:.3g} in L, {self.beyond_width:.3g} in M_l"
        inside = max(self.beyond_depth, self.beyond_width) <= 1
        return f"L = {self.depth}, M_l = {self.width} ({'not extrapolated' if inside else far})"


class Answer(NamedTuple):
    """The smallest sizes that are predicted to meet a target.

    Attributes
    ----------
    predicted : Size or None
        Smallest L M_l, of several the smallest L, at which P(E > eps) <= eta by the constants as fitted.
    certain : Size or None
        The same with the upper end of the probability's 95% interval at most eta.
    text : str
        The answer in a sentence.
    """

    predicted: Size | None
    certain: Size | None
    text: str


class Bound(NamedTuple):
    """The sufficient size in the form of the theorem, with constants as measured.

    Attributes
    ----------
    delta : float
        eps - E_inf.
    depth_constant, width_constant, depth, width : float, float, int, int
        C' and C of L >= C'/delta and W >= C/(delta**2 eta), and the L and M_l that these give.
    text : str
        The bound in a sentence, which says that it is one.
    """

    delta: float
    depth_constant: float
    width_constant: float
    depth: int
    width: int
    text: str


class Sizing(NamedTuple):
    """A study's energies at the end compared with its target."""

    s: float
    eps: float
    eta: float
    sizes: Sizes
    energies: Array  # (S, nL, nM)
    failures: FailureRates
    phase: PhaseDiagram
    model: EnergyModel
    answer: Answer
    bound: Bound | None


@cached
def summarise(work: Workspace) -> Sizing:
    """Compare a run's last energies with its target; raises InputError without a target, or with too few members."""
    wanted = work.study["target"]
    if wanted is None:
        raise InputError(NO_TARGET)
    last: dict[tuple[tuple[int, int], int, int], float] = {}  # by draw, L and M_l
    for member in work.members():
        with Trajectory(member.path) as trajectory:
            study = Member.of(trajectory.parameters["study"])
            until, coupling = study.flow.until, study.particles.coupling
            if not reached_end(trajectory) and not diverged(trajectory):
                continue  # not decided yet
            energy = np.inf if diverged(trajectory) else float(trajectory.series("energy")[-1])
            last[(study.seed, study.particles.part), *study.shape] = energy
    if not last:
        raise InputError(f"{work.folder}: expected members that came to an end, got none; run the study first")
    depths, widths, energies = tabulate(last)
    sizes = Sizes(depths, widths)
    eps, eta = wanted["eps"], wanted["eta"]
    model = fit_asymptotic_range(energies, sizes, coupling)
    kept = energies[:, -len(model.sizes.depths) :, -len(model.sizes.widths) :]
    linear = model if model.scale == "linear" else fit_energy_model(kept, model.sizes, coupling, "linear")
    failures = failure_rates(energies, sizes, eps)
    bound = sufficient(linear, eps, eta) if model.limit.low <= eps else None
    phase, answer = phase_diagram(failures, sizes, eta), smallest(model, eps, eta)
    return Sizing(until, eps, eta, sizes, energies, failures, phase, model, answer, bound)


def rows(found: Sizing) -> Iterator[Spec]:
    """Observation and prediction for every size, as plain JSON rows.

    ``order`` is its place in the test in a fixed order, from 1, and ``passed`` whether that shows it to meet the
    target: None if the test stopped before, or for sizes outside the order.
    """
    tested = found.phase.tested
    place = {size: k for k, size in enumerate(tested.order)}
    for i, depth in enumerate(found.sizes.depths):
        for j, width in enumerate(found.sizes.widths):
            if not found.failures.seeds[i, j]:
                continue
            probability, low, high = failure_probability(found.model, found.eps, depth, width)
            needed = found.phase.needed[i, j]
            ended, order = found.energies[:, i, j], place.get((depth, width))
            yield {
                "layers": depth, "per_layer": width, "particles": depth * width,
                "mean_energy": float(np.mean(ended[np.isfinite(ended)])) if np.isfinite(ended).any() else None,
                "seeds": int(found.failures.seeds[i, j]), "failed": int(found.failures.failed[i, j]),
                "low": float(found.failures.low[i, j]), "high": float(found.failures.high[i, j]),
                "verdict": str(found.phase.verdict[i, j]), "needed": int(needed) if np.isfinite(needed) else None,
                "order": None if order is None else order + 1, "passed": _passed(order, tested.passed),
                "predicted": float(probability), "predicted_low": float(low), "predicted_high": float(high),
            }  # fmt: skip


def _passed(order: int | None, passed: int) -> bool | None:
    """Whether the size at this place of the test in a fixed order passed, of so many; None if it was not tested."""
    return None if order is None or order > passed else order < passed


def smallest(model: EnergyModel, eps: float, eta: float, beyond: float = BEYOND) -> Answer:
    """Find the smallest size that is predicted to meet P(E > eps) <= eta.

    Parameters
    ----------
    model : EnergyModel
        From :func:`~wgflow.stats.extrapolation.fit_energy_model`.
    eps, eta : float
        The target, eps > 0 and 0 < eta < 1.
    beyond : float, optional
        Sizes are tried from the grid's smallest L and M_l to this multiple of its largest, >= 1: every size up to about
        60, beyond it in steps of about 2%, and those of the grid.

    Returns
    -------
    Answer
        ``predicted`` is a point estimate: where the law holds, it missed the target in 8% to 57% of 400 simulated
        studies in each of eleven cases (6 x 6 sizes, 8 or 32 seeds, both couplings). ``certain`` did so in at most 2%,
        although each interval holds at one size and the smallest of many is chosen.

    Raises
    ------
    InputError
        If the target or ``beyond`` is outside its range.
    """
    level, eta = check_target(eps, eta)
    beyond = real("beyond", beyond, least=1.0)
    if not model.misfit <= MISFIT:
        off = number(model.misfit, ".1f")
        text = f"the law of E misses the sizes by {off} of their standard errors, too far to predict by"
        return Answer(None, None, text)
    if model.limit.low > level:
        text = f"by the law of E fitted {_fitted(model)} no size meets it at this s: it puts the limit of E at "
        return Answer(None, None, f"{text}{interval(*model.limit, '.4g')}, above ε = {level:g}")
    depths, widths = (_candidates(axis, beyond) for axis in (model.sizes.depths, model.sizes.widths))
    value, low_end, high_end = failure_probability(model, level, depths[:, None], widths[None, :])
    found = []
    for probability in (value, high_end):
        cells = [(depths[i] * widths[j], depths[i], i, j) for i, j in np.argwhere(probability <= eta)]
        i, j = min(cells)[2:] if cells else (-1, -1)
        ends = Interval(float(value[i, j]), float(low_end[i, j]), float(high_end[i, j]))
        far = (max(1.0, depths[i] / model.sizes.depths[-1]), max(1.0, widths[j] / model.sizes.widths[-1]))
        found.append(Size(int(depths[i]), int(widths[j]), ends, *map(float, far)) if cells else None)
    return Answer(found[0], found[1], _sentence(found[0], found[1], model, level, beyond))


def _sentence(predicted: Size | None, certain: Size | None, model: EnergyModel, eps: float, beyond: float) -> str:
    """The predicted sizes in words."""
    if predicted is None:
        limit = interval(*model.limit, ".4g")
        return (
            f"no size within a factor {beyond:g} of the grid is predicted to meet it; E tends to {limit}, ε = {eps:g}"
        )
    return (
        f"if the law of E fitted {_fitted(model)} holds, the smallest predicted to meet it, a point estimate, is "
        f"{predicted}; the smallest with the whole 95% interval of its probability below η is {certain or 'none'}"
    )


def _fitted(model: EnergyModel) -> str:
    """Sizes that the law was fitted to."""
    return f"from L = {model.sizes.depths[0]}, M_l = {model.sizes.widths[0]} on (misfit {model.misfit:.1f})"


def sufficient(model: EnergyModel, eps: float, eta: float) -> Bound | None:
    """Size by the theorem's form: L >= C'/delta and W >= C/(delta**2 eta), delta = eps - E_inf.

    Both parts of the error are held to delta/2, as in the proof of Theorem 5.1 of Ding et al. (arXiv:2110.02926):
    |a|/L <= delta/2 gives C' = 2 |a|, and by Markov's inequality for the square of the width's part, whose mean is
    c**2/W + (b/W)**2 <= (c**2 + b**2)/W, C = 4 (c**2 + b**2). The theorem has W = M_l; W = L M_l is derived.

    Parameters
    ----------
    model : EnergyModel
        Of the linear scale.
    eps, eta : float
        The target.

    Returns
    -------
    Bound or None
        None if eps <= E_inf, or the model misses the sizes or has a limit below 0. Sufficient given the constants,
        which are estimates; far from necessary, since a normal law's tail is far below Markov's bound.

    Raises
    ------
    InputError
        If the target is outside its range, or the model of another scale.
    """
    level, eta = check_target(eps, eta)
    if model.scale != "linear":
        raise InputError(
            f"model: expected scale 'linear', in which the theorem is stated, got {model.scale!r}; fit again"
        )
    _, a, b, spread = model.point
    delta = level - model.limit.value
    if delta <= 0 or model.limit.value < 0 or model.misfit > MISFIT:
        return None
    shown = interval(delta, level - model.limit.high, level - model.limit.low, ".3g")
    deep, wide = 2 * abs(float(a)), 4 * (math.exp(2 * spread) + float(b) ** 2)
    depth = max(1, math.ceil(deep / delta))
    effective = wide / (delta**2 * eta)
    width = max(1, math.ceil(effective if model.coupling == "path" else effective / depth))
    name = "M_l" if model.coupling == "path" else "L M_l"
    text = (
        f"a sufficient bound, not the size needed: L ≥ {deep:.3g}/δ and {name} ≥ {wide:.3g}/(δ² η) with "
        f"δ = ε − E_inf = {shown} give L = {depth}, M_l = {width}"
    )
    return Bound(delta, deep, wide, depth, width, text)


def _candidates(sizes: tuple[int, ...], beyond: float) -> Array:
    """Sizes to try along one axis."""
    steps = np.round(np.geomspace(sizes[0], sizes[-1] * beyond, _CANDIDATES))
    return np.unique(np.concatenate([steps, np.array(sizes, float)]))
