"""Decay of E along a run compared with the decay that a lower bound of dissipation/E predicts.

Where dissipation >= m(s) E along the continuous flow, dE/ds = -dissipation gives E(s) <= E(0) exp(-int_0^s m): a local
Polyak-Lojasiewicz inequality, as in Barboni, Peyre and Vialard (arXiv:2403.12887). The bounds m of
:mod:`wgflow.theory.tangent_kernel` are computed without the gradient of E, so that either inequality could be violated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import cumulative_trapezoid

from wgflow.base.errors import InputError
from wgflow.base.types import Array
from wgflow.base.validate import numbers
from wgflow.base.verdict import Claim, Verdict
from wgflow.theory.stationarity import series_of_frames

_ROUNDING = 1e-6  # relative error of E and its dissipation, which may have been computed in single precision

RATE = Claim(
    "decay_rate_above_bound", "dissipation/E where nearest to its bound", ">=", "{formula}",
    holds="dissipation/E is at least {formula} at all {frames} frames where it is positive",
    fails="dissipation/E is below {formula} at {below} of {frames} frames",
    unknown="no frame has a bound {formula} > 0 of dissipation/E",
    rounding=_ROUNDING,
)  # fmt: skip
POSITIVE = Claim(
    "decay_bound_positive", "least {formula}", ">", "",
    holds="the bound {formula} says something at all {frames} frames",
    fails="the bound {formula} is vacuous at {vacuous} of {frames} frames: a kernel is singular up to rounding",
    unknown="no frame has a bound {formula}",
)  # fmt: skip
DECAY = Claim(
    "energy_below_predicted_decay", "E(s) where nearest to its bound", "<=", "E(0) exp(−∫m ds)",
    holds="E stays below the decay that m = {formula} predicts",
    fails="E exceeds the decay that m = {formula} predicts at {above} of {frames} frames after the first",
    unknown="{formula} predicts no decay, or none that frames so far apart can decide",
    rounding=_ROUNDING,
)  # fmt: skip


class DecayBound(NamedTuple):
    """A lower bound of dissipation/E at the frames of a run, and the measured quantities.

    Attributes
    ----------
    formula : str
        The bound, in symbols.
    s, energy, dissipation : ndarray (F,)
        Flow time and measured values.
    bound : ndarray (F,)
        Lower bound m >= 0 of dissipation/E, 0 where it is vacuous, NaN where it was not computed.
    """

    formula: str
    s: Array
    energy: Array
    dissipation: Array
    bound: Array

    @property
    def measured(self) -> Array:
        """dissipation/E, (F,); NaN where E = 0."""
        none = np.full(len(self.s), np.nan)
        return np.asarray(np.divide(self.dissipation, self.energy, out=none, where=self.energy > 0))

    @property
    def predicted(self) -> Array:
        """Upper bound of E, E(0) exp(-int_0^s m) by the trapezoid rule over the frames, (F,); NaN once m is unknown."""
        return np.asarray(self.energy[0] * np.exp(-cumulative_trapezoid(self.bound, self.s, initial=0.0)))

    @property
    def least_decay(self) -> Array:
        """E(0) exp(-int_0^s m) with the lesser m of each two neighbouring frames, (F,).

        Unlike the trapezoid rule it does not overestimate the integral, unless m falls below both frames between them.
        """
        lesser = np.minimum(self.bound[1:], self.bound[:-1])
        return np.asarray(self.energy[0] * np.exp(-np.append(0.0, np.cumsum(lesser * np.diff(self.s)))))

    @property
    def violated(self) -> NDArray[np.bool_]:
        """Frames at which dissipation/E < m, (F,)."""
        return _beyond(self.bound, self.measured)

    @property
    def exceeded(self) -> NDArray[np.bool_]:
        """Frames at which E is above :attr:`least_decay`, (F,)."""
        return _beyond(self.energy, self.least_decay)

    @property
    def verdicts(self) -> list[Verdict]:
        """Whether the bound holds, says anything, and bounds E once it is integrated."""
        known, positive = ~np.isnan(self.bound), self.bound > 0
        # Beyond the trapezoid rule, but not certainly above, nothing is decided.
        between = _beyond(self.energy, self.predicted) & ~self.exceeded
        compared = np.where(self.exceeded, self.least_decay, self.predicted)
        predicted = np.where(positive.any() & (self.exceeded.any() | ~between.any()), compared, np.nan)
        later = np.flatnonzero(~np.isnan(predicted) & ~between)
        later = later[later > 0]  # at the start the two are equal
        least = float(self.bound[known].min()) if known.any() else float("nan")
        name = {"formula": self.formula}
        return [
            RATE.of_all(
                self.measured[positive], self.bound[positive], below=int(self.violated.sum()),
                frames=int(positive.sum()), **name,
            ),
            POSITIVE(least, 0.0, vacuous=int((self.bound == 0).sum()), frames=int(known.sum()), **name),
            DECAY.of_all(
                self.energy[later], predicted[later], above=int(self.exceeded.sum()), frames=len(later), **name
            ),
        ]  # fmt: skip


def decay_bound(formula: str, s: ArrayLike, energy: ArrayLike, dissipation: ArrayLike, bound: ArrayLike) -> DecayBound:
    """Compare a lower bound of dissipation/E with a run.

    Parameters
    ----------
    formula : str
        The bound, in symbols.
    s, energy, dissipation : array_like (F,)
        Flow time, increasing, energy and dissipation of the frames; F >= 2.
    bound : array_like (F,)
        Lower bounds >= 0, NaN where unknown.

    Raises
    ------
    InputError
        If there are fewer than two frames, lengths differ, s does not increase or a bound is negative.
    """
    s, energy, dissipation = series_of_frames(s, energy, dissipation)
    values = numbers("bound", bound, "iuf", "numbers, NaN where unknown").astype(float)
    if values.shape != s.shape or (values < 0).any():
        raise InputError(f"bound: expected {len(s)} numbers >= 0 or NaN, one for each frame, got {values}")
    return DecayBound(formula, s, energy, dissipation, values)


def _beyond(small: Array, large: Array) -> NDArray[np.bool_]:
    """Where the first is larger than the second, up to rounding; not where either is NaN."""
    return np.asarray((small > large) & ~np.isclose(small, large, rtol=_ROUNDING, atol=0.0))
