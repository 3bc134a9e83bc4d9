"""Assumptions of the theorems, checked on one problem and one measure."""

from __future__ import annotations

from wgflow.energy import Energy
from wgflow.model.particles import Particles
from wgflow.theory.assumption import Assumption
from wgflow.theory.critical_values import critical_values
from wgflow.theory.homogeneity import homogeneity, radius
from wgflow.theory.radial_limit import radial_limit
from wgflow.theory.reference_laws import initial_law
from wgflow.theory.regularity import lipschitz
from wgflow.theory.universality import attainable, universal_kernel


def check_assumptions(energy: Energy, rho: Particles, seed: int = 0, starts: int = 48) -> list[Assumption]:
    """Check the theorems' seven assumptions, with a verdict each, beside the initial law with its default scales.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme.
    seed, starts : int, optional
        Seed of all random draws, and starts of the search for critical values, at t0 = 1/2, also that of H_r.

    Returns
    -------
    list of Assumption
        universal kernel, homogeneity, C^1 limit of H_r, Lipschitz in depth, support in Q_r, isolated critical values,
        zero loss attainable.

    Raises
    ------
    InputError
        If a number is out of range or the measure does not fit the energy.
    """
    problem, law = energy.problem, initial_law(energy.problem)
    return [
        universal_kernel(problem, law, seed),
        homogeneity(problem, seed),
        radial_limit(energy, rho, seed=seed),
        lipschitz(energy, rho, law, seed=seed),
        radius(problem, rho, seed),
        critical_values(energy, rho, starts=starts, seed=seed),
        attainable(problem, law, seed),
    ]
