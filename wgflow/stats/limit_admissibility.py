"""Definition E.1 of Ding, Chen, Li and Wright (arXiv:2110.02926): in closed form, and its probabilities over seeds.

A start is limit-admissible if constants C3 and C4 serve all eta, L and M > C3/eta, so that each of

    P(sup_t (1/M) sum_m |theta_m(t)|**2 <= C4) >= 1 - eta,
    P((1/M) sum_l sum_m int_(l/L)^((l+1)/L) |theta_m(t) - theta_m(l/L)|**2 dt <= C4 / L**2) >= 1 - eta.

Paths theta(t) = scale T(cos(pi t/2) Z + sin(pi t/2) Z'), with a map T that is Lipschitz and 0 at 0, satisfy it
(derived): |theta(t)| <= K R and |theta(t) - theta(u)| <= (pi/2) K R |t - u| with R**2 = |Z|**2 + |Z'|**2, so that both
left sides are at most a multiple of (1/M) sum_m R_m**2, which for P parameters exceeds 2 P + 1 with probability at most
4 P/M (Chebyshev). On a sphere T(z) = z/|z| is not Lipschitz at 0; with E int |theta'|**4 dt finite, from five columns
on, the same argument holds. Independent layers do not satisfy it: for every L the depth integral tends to twice the
variance as M grows, and C4/L**2 falls below that.

For one C4, eta, L and M the probabilities are estimated, with exact 95% intervals (Clopper and Pearson). No finite
number of seeds decides the definition, and another C4 may hold where one fails, so that they are listed and do not.
"""

from __future__ import annotations

import math

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.validate import real, whole
from wgflow.model.initial_laws import Sphere
from wgflow.stats.exceedance import clopper_pearson
from wgflow.theory.admissibility import process_moments
from wgflow.theory.assumption import DING, Assumption, Condition, listed, verdict_of
from wgflow.theory.reference_laws import InitialLaw

_PILOT, _FIRST = 20, 2**32  # seeds behind the default C4, and the first of them
_COLUMNS = 5  # of a sphere, from which 1/|z|**4 has a finite mean
_ROUNDING = 1e-12  # relative, of the left sides: a law on a sphere has |theta|**2 = C4 with C4 its square radius


def limit_admissible(
    law: InitialLaw,
    layers: int,
    count: int,
    coupling: str = "path",
    eta: float = 0.05,
    c4: float | None = None,
    seeds: int = 200,
) -> Assumption:
    """Estimate both probabilities of Definition E.1 over seeds.

    Parameters
    ----------
    law : InitialLaw
        Law of the start at every depth.
    layers, count : int
        L and M.
    coupling : {"path", "independent"}, optional
        As for :meth:`wgflow.Particles.draw_layers`.
    eta : float, optional
        0 < eta < 1.
    c4 : float, optional
        C4 > 0; by default twice the larger mean of the left sides over 20 other seeds at L = 1, since it is to serve
        all L.
    seeds : int, optional
        Seeds S >= 1, from 0 on.

    Returns
    -------
    Assumption
        ``number`` is the smaller of the two fractions of seeds. ``pass`` and ``fail`` in closed form, as in the text of
        the module; ``unknown`` for a sphere of fewer than five columns.

    Raises
    ------
    InputError
        If a number is out of range or the coupling is unknown.
    """
    eta, seeds = real("eta", eta, above=0.0), whole("seeds", seeds)
    if eta >= 1:
        raise InputError(f"eta: expected a probability with 0 < eta < 1, got {eta:g}")
    c4 = _default(law, count, coupling) if c4 is None else real("c4", c4, above=0.0)
    moments = [process_moments(law, layers, count, seed, coupling) for seed in range(seeds)]
    most = c4 * (1 + _ROUNDING)
    held = np.array([(one.largest <= most, one.roughness <= most) for one in moments]).sum(axis=0)
    low, high = clopper_pearson(held, seeds)
    names = ("sup_t (1/M) sum |theta_m(t)|**2 <= C4", f"depth integral <= C4/L**2 = {c4 / layers**2:.3g}")
    reasons = [
        f"{k} of {seeds} seeds, 95% interval {a:.3f} to {b:.3f}" for k, a, b in zip(held, low, high, strict=True)
    ]
    certain = law.bound(np.arange(law.problem.shape[3])) ** 2
    if certain <= c4:
        reasons[0] += f" (it is 1 here, since |theta|**2 <= {certain:.3g})"
    tried = [
        Condition(f"P({name}) >= {1 - eta:g}", "refuted" if above < 1 - eta else "not checked", reason, decides=False)
        for name, reason, above in zip(names, reasons, high, strict=True)
    ]
    conditions = (_definition(law, coupling), *tried)
    sentence = f"For C4 = {c4:.3g}, M = {count}, L = {layers} and eta = {eta:g}. {listed(conditions)}"
    number, source = float(held.min() / seeds), f"{DING}, Definition E.1"
    return Assumption("limit-admissible", verdict_of(conditions), number, sentence, source, conditions)


def _definition(law: InitialLaw, coupling: str) -> Condition:
    """The definition in closed form, for a law of starts at every depth."""
    name = "constants C3 and C4 for all eta, L and M > C3/eta"
    if not law.spread.any():
        return Condition(name, "proved", "all parameters are 0")
    if coupling == "independent":
        return Condition(
            name, "refuted", "independent layers: for every L the integral tends to twice the variance > 0"
        )
    bounded = int(law.theta.columns(law.problem).sum())
    if isinstance(law.theta, Sphere) and bounded < _COLUMNS:
        return Condition(name, "not checked", f"paths on a sphere of {bounded} columns have no fourth moment of theta'")
    return Condition(
        name, "proved", f"paths of the law {law.theta.name}, |theta(t) - theta(u)| <= R |t - u|, E R**4 finite"
    )


def _default(law: InitialLaw, count: int, coupling: str) -> float:
    pilot = [process_moments(law, 1, count, _FIRST + seed, coupling) for seed in range(_PILOT)]
    mean = 2.0 * float(np.mean(pilot, axis=0).max())
    return mean if mean > 0 and math.isfinite(mean) else 1.0
