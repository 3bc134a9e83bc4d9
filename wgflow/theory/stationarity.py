"""Stationarity residual of a measure; energy-dissipation identity and Polyak-Lojasiewicz ratio along a run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import cumulative_trapezoid

from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array
from wgflow.base.validate import finite_array, real
from wgflow.energy import Energy
from wgflow.model.particles import BOUNDARIES, Particles, project


class Residual(NamedTuple):
    """Squared gradient of the first variation, integrated against the measure.

    Attributes
    ----------
    theta : float
        int |d_theta dE/drho|**2 drho, >= 0.
    t : float
        int |d_t dE/drho|**2 drho, >= 0, without motion out of [0, 1] at the boundary. Under Gaps and Layers dE/drho is
        constant in t inside every layer and under Shallow everywhere, so it is 0.
    force : float
        sum_i v_tau,i**2 / kappa_i of the scheme's motion in depth, >= 0. Under Deposit the same as ``t``; under
        Intervals, where blocks move as wholes by the mean of d_t dE/drho, at most that. Under Gaps it is that of
        Algorithm 1, which moves the boundary of two neighbours by their difference g_l - g_(l+1): not a derivative of
        dE/drho, it need not vanish where ``theta`` and ``t`` do.
    """

    theta: float
    t: float
    force: float

    @property
    def total(self) -> float:
        """Residual int |grad dE/drho|**2 drho = theta + t; 0 exactly at stationary points of the Wasserstein flow."""
        return self.theta + self.t


def residual(energy: Energy, rho: Particles, s: float = 0.0, boundary: str = "clip") -> Residual:
    """Stationarity residual int |grad dE/drho|**2 drho.

    It is the Wasserstein flow's dissipation under Deposit, Layers and Shallow, and bounds it under Intervals. Under
    Gaps the integral runs over the gaps, while Algorithm 1 with masses m_i moves theta by -(gap/m) grad and so
    dissipates gap/m times as much.

    Parameters
    ----------
    energy : Energy
        With its problem, scheme and regulariser.
    rho : Particles
        The measure, with all depths in [0, 1].
    s : float, optional
        Flow time, for a regulariser that depends on it.
    boundary : {"clip", "reflect", "free"}, optional
        Boundary of the depth interval as for :class:`wgflow.Flow`; ``clip`` omits motion out of [0, 1].

    Raises
    ------
    InputError
        If the measure does not fit the energy, leaves [0, 1], or the boundary is unknown.

    Notes
    -----
    Stationary points: Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3; the integrand is that of the dissipation
    dE/ds = -int |grad dE/drho|**2 drho of Ding, Chen, Li and Wright (arXiv:2110.02926).
    """
    check_name("boundary", boundary, BOUNDARIES)
    particle, t, share = energy.depth.points(rho)
    weights = share * energy.weights(rho)[particle]
    _, by_theta, by_t = energy.first_variation_gradient(rho, rho.theta[particle], t, s)
    by_t = project(t, -by_t, boundary)
    v_tau = project(rho.tau, energy.field(rho, s=s)[2], boundary)
    return Residual(
        float(weights @ np.einsum("np,np->n", by_theta, by_theta)),
        float(weights @ by_t**2),
        energy.dissipation(rho, np.zeros_like(rho.theta), v_tau),
    )


class EnergyIdentity(NamedTuple):
    """Energy-dissipation identity along a run's frames.

    Attributes
    ----------
    s, drop : ndarray (F,)
        Flow time, and E(0) - E(s).
    dissipated : ndarray (F,)
        int_0^s of the dissipation, by the trapezoid rule over the frames.
    defect : ndarray (F,)
        drop - dissipated, which is due to the step length, the spacing of the frames, noise, operators that move the
        measure, and jumps of E at order switches.
    at_switches : ndarray (F,)
        Part of the defect from intervals between frames in which particles changed places in depth (Gaps). There E
        jumps, which no dissipation explains; 0 if ``switches`` is not given.
    """

    s: Array
    drop: Array
    dissipated: Array
    defect: Array
    at_switches: Array

    @property
    def elsewhere(self) -> Array:
        """Part of the defect from intervals without an order switch, (F,)."""
        return self.defect - self.at_switches

    @property
    def relative(self) -> float:
        """Largest |defect| over the largest |drop|; NaN if E never changed."""
        scale = float(np.abs(self.drop).max())
        return float(np.abs(self.defect).max()) / scale if scale > 0 else float("nan")


def balance(
    s: ArrayLike, energy: ArrayLike, dissipation: ArrayLike, switches: ArrayLike | None = None
) -> EnergyIdentity:
    """Energy-dissipation identity E(0) - E(s) = int_0^s dissipation, checked on recorded frames.

    Parameters
    ----------
    s, energy, dissipation : array_like (F,)
        Flow time, increasing, energy and dissipation of the frames; F >= 2.
    switches : array_like (F,), optional
        Pairs of particles that have changed places up to each frame, as recorded in the frames.

    Raises
    ------
    InputError
        If there are fewer than two frames, lengths differ, or s does not increase.

    Notes
    -----
    Holds for the continuous flow of E without explicit dependence on s: Ding, Chen, Li and Wright (arXiv:2110.02926).
    With Euler steps of length h the defect is O(h), with frames Delta apart there is another O(Delta**2).
    """
    s, energy, dissipation = series_of_frames(s, energy, dissipation)
    drop, dissipated = energy[0] - energy, cumulative_trapezoid(dissipation, s, initial=0)
    defect = drop - dissipated
    at_switches = np.zeros_like(s)
    if switches is not None:
        count = finite_array("switches", switches, 1)
        if count.shape != s.shape or (np.diff(count) < 0).any():
            raise InputError(f"switches: expected {len(s)} numbers that never decrease, got {len(count)} numbers")
        at_switches[1:] = np.cumsum(np.where(np.diff(count) > 0, np.diff(defect), 0.0))
    return EnergyIdentity(s, drop, dissipated, defect, at_switches)


class Lojasiewicz(NamedTuple):
    """Polyak-Lojasiewicz ratio and the decay of E, both measured along a run.

    Since dE/ds = -dissipation, the two agree wherever the flow is resolved: they are :func:`balance` relative to
    E - inf E, and neither predicts the other. :mod:`wgflow.theory.decay_bound` compares the ratio with a prediction.

    Attributes
    ----------
    s, above, ratio : ndarray (F,)
        Flow time, E - inf E, and dissipation / (E - inf E) >= 0; the last two NaN where E <= inf E.
    middle : ndarray (F - 1,)
        Flow times half way between frames.
    decay : ndarray (F - 1,)
        -d log(E - inf E)/ds between the frames.
    """

    s: Array
    above: Array
    ratio: Array
    middle: Array
    decay: Array

    @property
    def least(self) -> float:
        """Smallest ratio m so far: E(s) - inf E <= (E(0) - inf E) exp(-m s); NaN if there is none."""
        known = self.ratio[np.isfinite(self.ratio)]
        return float(known.min()) if len(known) else float("nan")


def lojasiewicz(s: ArrayLike, energy: ArrayLike, dissipation: ArrayLike, infimum: float = 0.0) -> Lojasiewicz:
    """Polyak-Lojasiewicz ratio |grad E|**2 / (E - inf E), and the rate at which log(E - inf E) falls.

    Parameters
    ----------
    s, energy, dissipation : array_like (F,)
        As for :func:`balance`.
    infimum : float, optional
        inf E; 0 where the problem can be fitted exactly.

    Raises
    ------
    InputError
        As :func:`balance`.
    """
    s, energy, dissipation = series_of_frames(s, energy, dissipation)
    above = energy - real("infimum", infimum)
    above = np.where(above > 0, above, np.nan)
    decay = -np.diff(np.log(above)) / np.diff(s)
    return Lojasiewicz(s, above, dissipation / above, 0.5 * (s[1:] + s[:-1]), decay)


def series_of_frames(s: ArrayLike, energy: ArrayLike, dissipation: ArrayLike) -> tuple[Array, Array, Array]:
    """Flow time, energy and dissipation of the frames, (F,), F >= 2; raises InputError as :func:`balance`."""
    s, energy = finite_array("s", s, 1), finite_array("energy", energy, 1)
    dissipation = finite_array("dissipation", dissipation, 1)
    lengths = [len(s), len(energy), len(dissipation)]
    if len(set(lengths)) > 1:
        raise InputError(f"s, energy, dissipation: expected equally many numbers, got {lengths}")
    if len(s) < 2:
        raise InputError("s: expected at least two frames, got one; nothing can be said about a run without them")
    if (np.diff(s) <= 0).any():
        raise InputError("s: expected flow times that increase from frame to frame, got some that do not")
    return s, energy, dissipation
