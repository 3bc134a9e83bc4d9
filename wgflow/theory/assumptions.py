"""The assumptions panel: what the theorems assume, checked on one problem and one measure."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from wgflow.base.scaling import norms
from wgflow.base.types import Array
from wgflow.base.validate import real
from wgflow.energy import Energy
from wgflow.model.depth import Deposit, Gaps, Layers, Shallow
from wgflow.model.particles import Particles
from wgflow.theory.assumption import LU, Assumption, Verdict
from wgflow.theory.critical_values import sard
from wgflow.theory.distances import between, conditionals
from wgflow.theory.homogeneity import homogeneity, radius
from wgflow.theory.reference import Law, draws, initial
from wgflow.theory.universality import attainable, universal_kernel

__all__ = ["Assumption", "assumptions", "lipschitz", "steepness"]


def assumptions(
    energy: Energy,
    rho: Particles,
    seed: int = 0,
    law: Law | None = None,
    bound: float | None = None,
    t0: float = 0.5,
    samples: int = 1024,
    starts: int = 48,
) -> list[Assumption]:
    """Check everything the theorems assume, six lines with a verdict each.

    Parameters
    ----------
    energy : Energy
        E, with the problem and the depth scheme.
    rho : Particles
        The measure.
    seed : int, optional
        Seed of everything drawn.
    law : callable, optional
        Reference law of :mod:`wgflow.theory.reference`; by default the initial law, with default scales.
    bound : float, optional
        Lipschitz constant in depth that is to hold, >= 0.
    t0 : float, optional
        Depth of the Sard proxy, in [0, 1].
    samples, starts : int, optional
        Samples of the Gram matrices at most, and starts of the Sard proxy.

    Returns
    -------
    list of Assumption
        universal kernel, homogeneity, Lipschitz in depth, support in Q_r, isolated critical values, zero loss
        attainable.

    Raises
    ------
    InputError
        If a number is out of range or the measure does not fit the energy.
    """
    problem = energy.problem
    law = initial(problem) if law is None else law
    return [
        universal_kernel(problem, law, seed, samples),
        homogeneity(problem, seed),
        lipschitz(energy, rho, law, bound, seed),
        radius(problem, rho, seed),
        sard(energy, rho, t0, starts, seed),
        attainable(problem, law, seed, samples),
    ]


def lipschitz(energy: Energy, rho: Particles, law: Law, bound: float | None = None, seed: int = 0) -> Assumption:
    """Lipschitz constant of the measure in depth, in W2, beside that of independent draws of the law at its depths.

    Any finite network has one; only a bound makes a verdict, and its growth with L or N tells a path from noise.

    Returns
    -------
    Assumption
        ``number`` is :func:`steepness`.
    """
    source = f"{LU}, assumption of Lipschitz continuity in depth"
    if bound is not None:
        bound = real("bound", bound, least=0.0)
    if isinstance(energy.depth, Shallow):
        return Assumption("Lipschitz in depth", "pass", 0.0, "The shallow model has no depth.", source)
    value, how = steepness(energy, rho)
    theta = draws(law, len(rho), seed, 1, "independent depths")[0][0]
    free, _ = steepness(energy, rho.moved(theta, rho.tau))
    verdict: Verdict = "unknown" if bound is None else "pass" if value <= bound else "fail"
    asked = "no bound was given" if bound is None else f"the bound is {bound:.4g}"
    said = f"{value:.4g} from {how}; {free:.4g} for independent draws at the same depths; {asked}."
    return Assumption("Lipschitz in depth", verdict, value, said, source)


def steepness(energy: Energy, rho: Particles) -> tuple[float, str]:
    """Largest distance between neighbours in depth over their distance in depth, and in words what was compared.

    Gaps: |theta^(l+1) - theta^l| / (tau^(l+1) - tau^l), infinite where two blocks share a depth. Layers and other
    schemes: L W2 between the laws in neighbouring slices of depth 1/L, with the scheme's layers, or half as many until
    none is empty.

    Raises
    ------
    InputError
        If the measure does not fit the scheme.
    """
    if isinstance(energy.depth, Gaps):
        order = rho.order
        jump = norms(np.diff(rho.theta[order], axis=0))
        gap = np.diff(rho.tau[order])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(jump > 0, jump / gap, 0.0)
        return float(ratio.max(initial=0.0)), "neighbouring blocks, difference over gap"
    layers = energy.depth.layers if isinstance(energy.depth, Layers | Deposit) else 32
    while layers > 1 and not _filled(rho, layers):
        layers //= 2
    if layers == 1:
        return 0.0, "a single slice of depth"
    parts = conditionals(rho, layers)
    found = [between(rho.theta[i], rho.theta[j], p, q) for (i, p), (j, q) in pairwise(parts)]
    methods = ", ".join(sorted({each.method for each in found}))
    return layers * max(each.value for each in found), f"W2 between neighbours of {layers} slices ({methods})"


def _filled(rho: Particles, layers: int) -> bool:
    place: Array = np.clip((rho.tau * layers).astype(np.int64), 0, layers - 1)
    return bool(np.bincount(place, rho.mass, minlength=layers).all())
