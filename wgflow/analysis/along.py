"""The theorems along a trajectory: stationarity, balance of energy, support, descent certificates, adjoint envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from wgflow.energy import Energy
from wgflow.errors import InputError
from wgflow.particles import Particles
from wgflow.theory import distances, reference
from wgflow.theory.assumptions import Assumption, assumptions
from wgflow.theory.certificate import Certificate, certificate
from wgflow.theory.envelope import Envelope, adjoint_envelope
from wgflow.theory.stationarity import Balance, Lojasiewicz, Residual, balance, lojasiewicz, residual
from wgflow.theory.support import Support, Yardstick
from wgflow.trajectory import Trajectory
from wgflow.types import Array, Frame, Index

_NEGLIGIBLE = 1e-6  # slopes of E below this part of E at the start count as none
_STEPS = 100, 300  # of a certificate's search; the last one is the one that is quoted
MEASURED, CERTIFIED = 40, 9  # frames at which support and stationarity, and certificates, are computed


class Along(NamedTuple):
    """What the theorems say along a run.

    Attributes
    ----------
    balance, rate : Balance, Lojasiewicz
        Energy-dissipation identity and Polyak-Lojasiewicz ratio over all frames.
    s : ndarray (A,)
        Flow times of the frames measured, the first and the last among them.
    residual : list of Residual
        Stationarity at these.
    support : list of Support
        Support beside iid draws of the initial law at these.
    travelled : list of float
        Distance of the measure from the first frame's at these, W2 where that is quick and sliced W2 beyond.
    certified : ndarray (C,)
        Flow times of the certificates.
    certificates : list of Certificate
        At these.
    envelopes : dict of str to Envelope
        Of the adjoint, at the ``"start"`` and the ``"end"``.
    assumptions : list of Assumption
        Of the theorems, at the end.
    last : Frame
        The last frame.
    """

    balance: Balance
    rate: Lojasiewicz
    s: Array
    residual: list[Residual]
    support: list[Support]
    travelled: list[float]
    certified: Array
    certificates: list[Certificate]
    envelopes: dict[str, Envelope]
    assumptions: list[Assumption]
    last: Frame

    @property
    def verdict(self) -> str:
        """Where the run has got to, in a sentence."""
        share = 100 * self.support[-1].ratio
        return (
            f"At s = {self.last.s:g} the measure is stationary to {self.residual[-1].total:.1e}; its support is like "
            f"{share:.0f}% of an iid cloud's; {self.certificates[-1].verdict}."
        )


def along(
    trajectory: Trajectory,
    progress: Callable[[str, float], None] | None = None,
    starts: int = 64,
    seed: int = 0,
    threads: int | None = None,
    own: Mapping[str, Any] | None = None,
) -> Along:
    """Compute what the theorems say along a run.

    Parameters
    ----------
    trajectory : Trajectory
        The run, whose data are in its file.
    progress : callable, optional
        Told what is being computed and the share of all that is done, from 0 to 1.
    starts : int, optional
        Starts of each certificate's search.
    seed : int, optional
        Seed of everything drawn.
    threads : int, optional
        Threads of the kernels.
    own : mapping of str to object, optional
        Objects of your own the run was made with; see :meth:`wgflow.Energy.from_spec`.

    Raises
    ------
    InputError
        If the run has fewer than two frames, or its data are not in its file.
    TrajectoryError
        If a frame does not match its digest.
    """
    if len(trajectory) < 2:
        raise InputError(f"{trajectory.path}: expected a run of at least two frames, got {len(trajectory)}")
    energy = trajectory.energy(threads=threads, own=own)
    tell = progress or (lambda what, share: None)
    tell("support of iid clouds", 0.0)
    series = {name: trajectory.series(name) for name in ("s", "energy", "dissipation", "switches")}
    first, last = trajectory[0], trajectory[-1]
    yardstick = _yardstick(trajectory, energy, first, seed)
    boundary = trajectory.parameters["flow"].get("boundary", "clip")
    numbers = spread(len(trajectory), MEASURED)
    residuals, supports, travelled = [], [], []
    for k, number in enumerate(numbers):
        tell("stationarity and support", 0.05 + 0.45 * k / len(numbers))
        frame = trajectory[int(number)]
        rho = _measure(frame)
        residuals.append(residual(energy, rho, frame.s, boundary))
        supports.append(yardstick.measure(frame.theta[frame.mass > 0], frame.tau[frame.mass > 0]))
        travelled.append(distances.distance(_measure(first), rho, seed=seed).value)
    certified, found = spread(len(trajectory), CERTIFIED), []
    for k, number in enumerate(certified):
        tell("descent certificates", 0.5 + 0.35 * k / len(certified))
        frame = trajectory[int(number)]
        least = _NEGLIGIBLE * abs(first.energy)
        steps = _STEPS[1] if number == len(trajectory) - 1 else _STEPS[0]
        found.append(
            certificate(energy, _measure(frame), starts=starts, steps=steps, seed=seed, s=frame.s, tolerance=least)
        )
    tell("adjoint envelope", 0.85)
    envelopes = {name: adjoint_envelope(energy, _measure(frame)) for name, frame in (("start", first), ("end", last))}
    tell("assumptions", 0.9)
    panel = assumptions(energy, _measure(last), seed)
    tell("done", 1.0)
    return Along(
        balance(**series),
        lojasiewicz(series["s"], series["energy"], series["dissipation"]),
        series["s"][numbers],
        residuals,
        supports,
        travelled,
        series["s"][certified],
        found,
        envelopes,
        panel,
        last,
    )


def spread(count: int, most: int) -> Index:
    """Numbers of at most so many of a run's frames, spread evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _measure(frame: Frame) -> Particles:
    return Particles(frame.theta, frame.tau, frame.mass)


def _yardstick(trajectory: Trajectory, energy: Energy, first: Frame, seed: int) -> Yardstick:
    """Support of iid draws of the law the run started from, as far as the file tells it."""
    table = trajectory.parameters["study"].get("particles", {})
    law = reference.initial(energy.problem, table.get("scale") or None)
    return Yardstick(law, len(first.tau), seed=seed, groups=energy.problem.groups)
