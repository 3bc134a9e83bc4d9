"""Assumptions of the theorems, checked on one problem and one measure."""

from __future__ import annotations

from wgflow.energy import Energy
from wgflow.model.depth import Shallow
from wgflow.model.particles import Particles
from wgflow.theory.admissibility import radius
from wgflow.theory.assumption import Assumption
from wgflow.theory.attainability import attainable
from wgflow.theory.critical_values import critical_values
from wgflow.theory.depth_lipschitz import lipschitz
from wgflow.theory.homogeneity import homogeneity
from wgflow.theory.measuring_function import measuring_function
from wgflow.theory.radial_limit import radial_limit
from wgflow.theory.reference_laws import Law, initial_law
from wgflow.theory.universality import universal_kernel


def check_assumptions(
    energy: Energy,
    rho: Particles,
    seed: int = 0,
    starts: int = 48,
    law: Law | None = None,
    start: Particles | None = None,
    start_law: Law | None = None,
) -> list[Assumption]:
    """Check the theorems' eight assumptions, with a verdict each, compared with draws from the initial law.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme.
    seed, starts : int, optional
        Seed of all random draws, and starts of the search for critical values, at t0 = 1/2, also that of H_r.
    law : callable, optional
        Law with full support to draw from; by default that of :meth:`Particles.draw` with its default scales.
    start, start_law : Particles, callable, optional
        Measure at s = 0, by default ``rho``, and the law it was drawn from, if that is known: the theorems want
        their supports bounded.

    Returns
    -------
    list of Assumption
        universal kernel, homogeneity, C^1 limit of H_r, Lipschitz in depth, support in Q_r, isolated critical values,
        zero loss attainable, data and g.

    Raises
    ------
    InputError
        If a number is out of range or the measure does not fit the energy.
    """
    problem, law = energy.problem, initial_law(energy.problem) if law is None else law
    return [
        universal_kernel(problem, law, seed),
        homogeneity(problem, seed),
        radial_limit(energy, rho, seed=seed),
        lipschitz(energy, rho, seed=seed),
        radius(problem, rho if start is None else start, start_law, seed=seed),
        critical_values(energy, rho, starts=starts, seed=seed),
        attainable(problem, law, seed, flow=not isinstance(energy.depth, Shallow)),
        measuring_function(problem, seed),
    ]
