"""Theorems along a trajectory: energy balance, stationarity, support, descent certificates, adjoint envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.scaling import norms
from wgflow.base.types import Array, Frame
from wgflow.base.validate import real, whole
from wgflow.base.verdict import Verdict
from wgflow.model.depth import Layers
from wgflow.model.particles import Particles
from wgflow.report import wording
from wgflow.report.decay_diagnostics import DecayDiagnostics, decay_diagnostics
from wgflow.report.member_selection import evenly_spaced
from wgflow.stats.limit_admissibility import limit_admissible
from wgflow.study.schema import Member
from wgflow.systems.residual import law_of_start
from wgflow.theory import distances
from wgflow.theory.assumption import Assumption
from wgflow.theory.assumption_checks import check_assumptions
from wgflow.theory.certificate import Certificate, certificate
from wgflow.theory.envelope import Envelope, adjoint_envelope
from wgflow.theory.stationarity import EnergyIdentity, Lojasiewicz, Residual, balance, lojasiewicz, residual
from wgflow.theory.support import Support, SupportEstimator
from wgflow.trajectory import Trajectory

_NEGLIGIBLE = 1e-6  # slopes of E below this fraction of E at the start count as zero
_STEPS = 100, 300  # of a certificate's search; more at the last frame, whose certificate is quoted
MEASURED, CERTIFIED = 41, 9  # frames with support and stationarity, and with certificates


class TheoremDiagnostics(NamedTuple):
    """Quantities of the theorems along a run.

    Attributes
    ----------
    balance, rate : EnergyIdentity, Lojasiewicz
        Energy-dissipation identity and Polyak-Lojasiewicz ratio over all frames.
    decay : DecayDiagnostics
        Lower bounds of that ratio from the tangent kernels and the decay of E that they predict, at frames among s.
    s : ndarray (A,)
        Flow times of the measured frames, including the first and the last.
    residual, support, distance : list of Residual, list of Support, list of float
        At s: stationarity, support compared with iid draws of the initial law, distance from the first frame's measure.
    distance_method : str
        ``"exact"`` (W2) or ``"sliced"``, the same for all s.
    radius : float
        R of all certificates: twice the largest |theta_i| of particles with mass, unless given.
    other_terms : list of str
        What else moves the measure, so that dissipation alone does not account for E.
    certified, certificates : ndarray (C,), list of Certificate
        Descent certificates, and their flow times.
    envelopes : dict of str to Envelope
        Envelope of the adjoint at the ``"start"`` and the ``"end"``.
    assumptions : list of Assumption
        Assumptions of the theorems, checked at the end.
    last : Frame
        The last frame.
    """

    balance: EnergyIdentity
    rate: Lojasiewicz
    decay: DecayDiagnostics
    s: Array
    residual: list[Residual]
    support: list[Support]
    distance: list[float]
    distance_method: str
    radius: float
    other_terms: list[str]
    certified: Array
    certificates: list[Certificate]
    envelopes: dict[str, Envelope]
    assumptions: list[Assumption]
    last: Frame

    @property
    def verdicts(self) -> list[Verdict]:
        """Claims at the start and the end, with the inequalities that decided them."""
        bounds = [one for when, envelope in self.envelopes.items() for one in envelope.verdicts(when)]
        assumed = [verdict for assumption in self.assumptions for verdict in assumption.verdicts]
        return [self.certificates[-1].verdict, *assumed, *bounds, *self.decay.verdicts]

    @property
    def verdict(self) -> str:
        """State of the run at its end, in a sentence."""
        rest, support = self.residual[-1], self.support[-1]
        force = f" (Algorithm 1's own force in depth: {rest.force:.1e})" if rest.force and not rest.t else ""
        iid = "of that of iid samples"
        if support.iid:
            iid = f"compared with {100 * min(support.iid):.0f}% to {100 * max(support.iid):.0f}% for iid samples"
        return (
            f"At s = {self.last.s:g} the stationarity residual is {wording.number(rest.total, '.1e')}{force}; the "
            f"support score is {wording.share(support.ratio)} {iid} of the initial law; "
            f"{self.certificates[-1].verdict}."
        )


def theorem_diagnostics(
    trajectory: Trajectory,
    progress: Callable[[str, float], None] = lambda what, share: None,
    starts: int = 64,
    radius: float | None = None,
    seed: int = 0,
    own: Mapping[str, Any] | None = None,
) -> TheoremDiagnostics:
    """Evaluate the theorems along a run.

    Parameters
    ----------
    trajectory : Trajectory
        The run, with its data in the file.
    progress : callable, optional
        Called with the current step and the share of the work that is done, from 0 to 1.
    starts : int, optional
        Starts of each certificate's search, >= 3.
    radius : float, optional
        R > 0 of all certificates; see :attr:`TheoremDiagnostics.radius`.
    seed : int, optional
        Random seed.
    own : mapping of str to object, optional
        User-defined objects of the run; see :meth:`wgflow.Energy.from_spec`.

    Raises
    ------
    InputError
        If the run has fewer than two frames, its energy or dissipation is not finite at all frames, its data are not in
        its file, a number is out of range, or particles lie outside of [0, 1] in depth.
    TrajectoryError
        If a frame does not match its digest.
    """
    if len(trajectory) < 2:
        raise InputError(f"{trajectory.path}: expected a run of at least two frames, got {len(trajectory)}")
    starts = whole("starts", starts, 3)
    energy = trajectory.energy(own=own)
    progress("support of iid samples", 0.0)
    series = {name: trajectory.series(name) for name in ("s", "energy", "dissipation", "switches")}
    lost = series["s"][~np.isfinite(series["energy"] + series["dissipation"])]
    if len(lost):
        raise InputError(
            f"{trajectory.path}: expected a run whose energy and dissipation stay finite, got infinity or NaN from "
            f"s = {lost[0]:g} on, where it diverges; run it in smaller steps, or choose another member"
        )
    first, last = trajectory[0], trajectory[-1]
    member = Member.of(trajectory.parameters["study"])
    law = law_of_start(energy.problem, member)
    estimator = SupportEstimator(law, len(first.tau), seed=seed, groups=energy.problem.groups)
    boundary = trajectory.parameters["flow"].get("boundary", "clip")
    numbers, certified = evenly_spaced(len(trajectory), MEASURED), evenly_spaced(len(trajectory), CERTIFIED)
    residuals, supports, moved = [], [], []
    method = distances.quick_method(_measure(trajectory[number]).mass for number in numbers)
    radius = _radius(trajectory, certified) if radius is None else real("radius", radius, above=0.0)
    for k, number in enumerate(numbers):
        progress("stationarity and support", 0.05 + 0.45 * k / len(numbers))
        frame = trajectory[number]
        rho = _measure(frame)
        residuals.append(residual(energy, rho, frame.s, boundary))
        supports.append(estimator.measure(frame.theta, frame.tau, frame.mass))
        moved.append(distances.distance(_measure(first), rho, method, seed=seed).value)
    certificates, least = [], _NEGLIGIBLE * abs(first.energy)
    for k, number in enumerate(certified):
        progress("descent certificates", 0.5 + 0.3 * k / len(certified))
        frame, steps = trajectory[number], _STEPS[number == len(trajectory) - 1]
        certificates.append(
            certificate(energy, _measure(frame), radius, starts, steps=steps, seed=seed, s=frame.s, tolerance=least)
        )
    flow, times = trajectory.parameters["flow"], series["s"]
    others = [*(["batches"] if flow.get("batch") else []), *(term["name"] for term in flow.get("ingredients", []))]
    progress("tangent kernels", 0.8)
    chosen = [trajectory[number] for number in numbers]
    decay = decay_diagnostics(energy, chosen, CERTIFIED, flow.get("mobility") or {}, others)
    progress("adjoint envelope", 0.87)
    envelopes = {name: adjoint_envelope(energy, _measure(frame)) for name, frame in (("start", first), ("end", last))}
    progress("assumptions", 0.9)
    known = "particles" in trajectory.parameters["study"] and member.particles.support == "full"
    start_law = law if known else None
    panel = check_assumptions(energy, _measure(last), seed, law=law, start=_measure(first), start_law=start_law)
    if start_law is not None and isinstance(energy.depth, Layers):
        panel.append(limit_admissible(start_law, member.layers, member.per_layer, member.particles.coupling))
    progress("done", 1.0)
    if energy.regulariser is not None:  # E depends on s: dE/ds = -dissipation + its rate at a fixed measure
        rate = [energy.rate_in_s(_measure(frame), frame.s) for frame in trajectory]
        series["dissipation"] = series["dissipation"] - np.array(rate)
    return TheoremDiagnostics(
        balance(**series),
        lojasiewicz(times, series["energy"], series["dissipation"]),
        decay,
        series["s"][numbers],
        residuals,
        supports,
        moved,
        method,
        radius,
        others,
        series["s"][certified],
        certificates,
        envelopes,
        panel,
        last,
    )


def _measure(frame: Frame) -> Particles:
    if frame.tau.min() < 0 or frame.tau.max() > 1:
        raise InputError(
            f"tau: expected depths in [0, 1], as the theorems require, got {frame.tau.min():g} to {frame.tau.max():g} "
            f"at s = {frame.s:g}; run with boundary clip or reflect"
        )
    return frame.particles


def _radius(trajectory: Trajectory, numbers: Sequence[int]) -> float:
    """Twice the largest |theta_i| of particles with mass in some frames, or 1 if all parameters are 0."""
    thetas = (frame.theta[frame.mass > 0] for frame in (trajectory[number] for number in numbers))
    farthest = max(float(norms(theta).max(initial=0.0)) for theta in thetas)
    return 2.0 * farthest if farthest > 0 else 1.0
