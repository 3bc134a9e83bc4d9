"""Distance d2 of two runs, the supremum of W2 over flow time and depth, from their recorded frames.

Ding, Chen, Li and Wright (arXiv:2110.02926), Definition 4.1: d1(nu, nu') = sup_t W2 of the laws at depth t, and
d2 = sup_{s, t} W2 for two families in flow time s. Frames give W2 at some s; their maximum is a lower bound of d2. An
upper bound follows from the dissipation q of all steps between two frames, which runs keep. If depths stay, the law of
a slice of mass m moves by at most sqrt((s'' - s') q / m) from s' to s'' (Cauchy-Schwarz; derived). With the triangle
inequality from both frames, between them

    W2(s) <= (W2(s') + W2(s''))/2 + (sqrt((s'' - s') q_a / m_a) + sqrt((s'' - s') q_b / m_b))/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Frame
from wgflow.base.validate import whole
from wgflow.theory.distances import by_depth, slices


class AlongFlow(NamedTuple):
    """Distances of two runs by depth, frame by frame.

    Attributes
    ----------
    s : ndarray (F,)
        Flow times of the frames.
    slices : ndarray (F, L)
        W2, or sliced W2, of the laws in each slice of depth.
    bound : float
        Upper bound of d2 over all s from the first frame to the last, along the steps of both runs. Infinite where
        none is known: depths or masses changed, or a run has noise or minibatches and so no energy balance. Operators
        of your own that say ``descends`` move particles as well, which it does not cover.
    method : str
        As in :class:`wgflow.theory.distances.Distance`.
    """

    s: Array
    slices: Array
    bound: float
    method: str

    @property
    def largest(self) -> Array:
        """d1 of each frame, (F,)."""
        return np.asarray(self.slices.max(axis=1))

    @property
    def recorded(self) -> float:
        """Supremum over the recorded frames alone, a lower bound of d2."""
        return float(self.slices.max())


def along_flow(a: Sequence[Frame], b: Sequence[Frame], layers: int, method: str = "exact") -> AlongFlow:
    """Distances of two runs at each of their frames, and bounds of d2 from below and above.

    Parameters
    ----------
    a, b : sequence of Frame
        Frames of the runs, or the trajectories, at the same flow times. The upper bound wants mobilities of at most 1
        and an integrator with weights >= 0, as the built-in ones have.
    layers : int
        L >= 1 slices of depth; the layers under ``Layers(L)``, for which conditional laws are exact.
    method : {"exact", "sliced"}, optional
        As in :func:`wgflow.theory.distances.distance`.

    Raises
    ------
    InputError
        If there are no frames, or their flow times differ, or as for :func:`wgflow.theory.distances.by_depth`.
    """
    layers = whole("layers", layers)
    if len(a) != len(b) or not len(a):
        raise InputError(f"a, b: expected two runs of equally many frames, got {len(a)} and {len(b)}")
    values, masses, at, dissipated, stays = [], [], [], [], True
    start: tuple[Frame, Frame] | None = None
    for k in range(len(a)):
        pair = a[k], b[k]
        if not np.isclose(pair[0].s, pair[1].s, rtol=1e-9, atol=0.0):
            raise InputError(f"a, b: expected frames at the same flow times, got s = {pair[0].s:g} and {pair[1].s:g}")
        start = pair if start is None else start
        stays = stays and all(
            np.array_equal(getattr(one, name), getattr(first, name))
            for one, first in zip(pair, start, strict=True)
            for name in ("tau", "mass")
        )
        values.append(by_depth(pair[0].particles, pair[1].particles, layers, method).slices)
        masses.append([slices(one.particles, layers)[1] for one in pair])
        at.append(pair[0].s)
        dissipated.append([one.balance.dissipated if one.balance is not None else np.nan for one in pair])
    found, times = np.array(values), np.array(at)
    moved = np.sqrt(np.diff(times)[:, None, None] * np.diff(dissipated, axis=0)[:, :, None] / np.array(masses)[1:])
    between = 0.5 * (found[:-1] + found[1:] + moved.sum(axis=1))
    bound = float(max(found.max(), between.max(initial=0.0))) if stays and np.isfinite(moved).all() else np.inf
    return AlongFlow(times, found, bound, method)
