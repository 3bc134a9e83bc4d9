"""Assumptions of the theorems, checked on one problem and one measure."""

from __future__ import annotations

from wgflow.energy import Energy
from wgflow.model.particles import Particles
from wgflow.theory.assumption import Assumption
from wgflow.theory.critical_values import critical_values
from wgflow.theory.homogeneity import homogeneity, radius
from wgflow.theory.reference_laws import Law, initial_law
from wgflow.theory.regularity import lipschitz
from wgflow.theory.universality import attainable, universal_kernel


def check_assumptions(
    energy: Energy,
    rho: Particles,
    seed: int = 0,
    law: Law | None = None,
    bound: float | None = None,
    t0: float = 0.5,
    samples: int = 1024,
    starts: int = 48,
) -> list[Assumption]:
    """Check the theorems' six assumptions, with a verdict each.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme.
    seed : int, optional
        Seed of all random draws.
    law : callable, optional
        Reference law; by default the initial law, with default scales.
    bound, t0 : float, optional
        Bound of the Lipschitz constant in depth, >= 0; depth at which critical values are computed, in [0, 1].
    samples, starts : int, optional
        Largest number of samples of the Gram matrices; starts of the search for critical values.

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
    law = initial_law(problem) if law is None else law
    return [
        universal_kernel(problem, law, seed, samples),
        homogeneity(problem, seed),
        lipschitz(energy, rho, law, bound, seed),
        radius(problem, rho, seed),
        critical_values(energy, rho, t0, starts, seed),
        attainable(problem, law, seed, samples),
    ]
