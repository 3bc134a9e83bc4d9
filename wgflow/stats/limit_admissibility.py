"""Probabilities of Definition E.1 of Ding, Chen, Li and Wright (arXiv:2110.02926), estimated over seeds.

A start is limit-admissible if constants C3 and C4 serve all eta, L and M > C3/eta, so that each of

    P(sup_t (1/M) sum_m |theta_m(t)|**2 <= C4) >= 1 - eta,
    P((1/M) sum_l sum_m int_(l/L)^((l+1)/L) |theta_m(t) - theta_m(l/L)|**2 dt <= C4 / L**2) >= 1 - eta.

One C4, eta, L and M are tried here, with exact 95% intervals of both probabilities (Clopper and Pearson): a ``pass`` is
false with probability at most 2.5%, a ``fail`` with at most 5%. No finite number of them proves the definition, and
another C4 may hold where one fails.
"""

from __future__ import annotations

import math

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.validate import real, whole
from wgflow.stats.exceedance import clopper_pearson
from wgflow.theory.admissibility import process_moments
from wgflow.theory.assumption import DING, Assumption, Verdict
from wgflow.theory.reference_laws import InitialLaw

_PILOT, _FIRST = 20, 2**32  # seeds behind the default C4, and the first of them
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
        ``number`` is the smaller of the two fractions of seeds. ``pass`` if both intervals lie at or above 1 - eta,
        ``fail`` if one lies below, else ``unknown``.

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
    parts = [_said(name, int(k), seeds, a, b, 1 - eta) for name, k, a, b in zip(names, held, low, high, strict=True)]
    certain = law.bound(np.arange(law.problem.shape[3])) ** 2
    if certain <= c4:
        parts[0] += f" (it is 1 here, since |theta|**2 <= {certain:.3g})"
    sentence = f"For C4 = {c4:.3g}, M = {count}, L = {layers} and eta = {eta:g}, {'; '.join(parts)}."
    number = float(held.min() / seeds)
    return Assumption("limit-admissible", _verdict(low, high, eta), number, sentence, f"{DING}, Definition E.1")


def _default(law: InitialLaw, count: int, coupling: str) -> float:
    pilot = [process_moments(law, 1, count, _FIRST + seed, coupling) for seed in range(_PILOT)]
    mean = 2.0 * float(np.mean(pilot, axis=0).max())
    return mean if mean > 0 and math.isfinite(mean) else 1.0


def _verdict(low: Array, high: Array, eta: float) -> Verdict:
    if (high < 1 - eta).any():
        return "fail"
    return "pass" if (low >= 1 - eta).all() else "unknown"


def _said(name: str, held: int, seeds: int, low: float, high: float, level: float) -> str:
    """One inequality, what it was compared with, and the outcome."""
    finding = "supported" if low >= level else "refuted for this C4" if high < level else "undecided"
    return f"P({name}) >= {level:g} is {finding}: {held} of {seeds} seeds, 95% interval {low:.3f} to {high:.3f}"
