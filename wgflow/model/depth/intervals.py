"""Blocks that act over intervals of depth of widths of their own, which may overlap: the slides' parametrisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from wgflow.base.types import Array, Index
from wgflow.base.validate import real, whole
from wgflow.model.depth.base import Network, Stencil, Transpose
from wgflow.model.depth.deposit import Deposit, DepositionScheme
from wgflow.model.particles import Particles

_NODES = np.array([0.5 - 0.15**0.5, 0.5, 0.5 + 0.15**0.5])  # Gauss, exact for polynomials of degree 5
_SHARES = np.array([5.0, 8.0, 5.0]) / 18


@dataclass(frozen=True)
class Intervals(DepositionScheme):
    """Particles as indicators: rho = sum_i delta_(theta_i) 1_[a_i, a_i + w_i](t), in L layers.

    The parametrisation of the slides of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508): block i acts at all depths from a_i
    to a_i + w_i, with as many others as act there. Its mass is its width, w_i = mass_i, and tau_i in [0, 1] is its
    place among the intervals of that width: a_i = (1 - w_i) tau_i, so that none leaves [0, 1]. A particle is the
    measure of :class:`Deposit`'s particles that are spread evenly over its interval,

        weight_(i,k) = mass_i (1/w_i) int_(a_i)^(a_i + w_i) S_k(t) dt,

    with the spline S_k of ``Deposit(L)``, whose energy this therefore is, and so is dE/drho = sum_k S_k(t) g_k. E is
    C^2 in tau, also where ends of intervals cross, and never jumps.

    Parameters
    ----------
    layers : int
        L >= 1. E tends to the limit of N blocks for any; the velocity in depth only with many blocks to a layer, or
        many that overlap, see the notes.
    width : float, optional
        w_i = min(1, width mass_i), >= 0; the height of the indicator is 1/width then. 0 is ``Deposit(L)``.

    Notes
    -----
    Blocks move as wholes: theta by the mean of -d_theta dE/drho over the interval, and both its ends by
    -(h(a + w) - h(a))/w, the mean of -d_t dE/drho, where h(t) = dE/drho(theta, t). That is the steepest descent in the
    Wasserstein metric among such motions; at tau = 0 and 1 the interval touches a wall, and may leave it again. Widths
    are fixed. Ends that move apart, with velocities h(a) of a and -h(a + w) of a + w, would need a width for each
    particle beside theta and tau, with w >= 0 and a + w <= 1 as boundaries, in the state of a flow, its metric and
    error estimate, and the trajectory format.

    Euler steps between the 2 N sorted ends would be another discretisation, whose grid moves with the particles. Its E
    is continuous but has kinks where ends cross (derived): with A and C active before and after the crossing and
    H(S) = sum_S mean f(X, theta) . p there, the derivatives in tau from the two sides differ by
    (G_A - H(A)) + (G_C - H(C)), G the sums of g in the two layers. That is of the order 1/N of their lengths, as is
    dE/dtau itself, so that its velocity in depth does not converge.

    Root mean square errors over 8 draws of E and of the velocity in depth (which is 0.11), for N blocks on two smooth
    curves at random depths (``tests/model/test_intervals.py``):

    ============================  ========  ========  ========  ========  ========  ========
    N                             32: E     128: E    512: E    32: v     128: v    512: v
    ============================  ========  ========  ========  ========  ========  ========
    Gaps                          0.036     0.016     0.0096    0.116     0.113     0.113
    Deposit(N)                    0.0035    0.00039   0.000093  0.143     0.129     0.126
    Intervals(N)                  0.0032    0.00037   0.000088  0.095     0.092     0.089
    Intervals(4 N)                0.0027    0.00029   0.000047  0.098     0.091     0.091
    Deposit(N / 8)                0.0095    0.0018    0.00047   0.078     0.020     0.009
    Intervals(N / 8)              0.0093    0.0018    0.00047   0.078     0.020     0.009
    Intervals(4 N, sqrt(N))       0.0059    0.0015    0.00034   0.012     0.007     0.004
    ============================  ========  ========  ========  ========  ========  ========

    A block feels only those that share its layers or overlap it. With widths 1/N in fine layers these are one or two
    whatever N, and v does not converge, which is a property of that measure and not of the layers; it does with N/L or
    ``width`` growing.
    """

    layers: int
    width: float = 1.0
    name: ClassVar[str] = "intervals"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect")

    def _check_options(self) -> None:
        whole("layers", self.layers)
        real("width", self.width, least=0.0)

    def ends(self, rho: Particles) -> tuple[Array, Array]:
        """Start and width of each interval, (N,)."""
        width = np.minimum(1.0, self.width * rho.mass)
        return (1.0 - width) * rho.tau, width

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Stencil of the first variation: that of ``Deposit(L)``."""
        return Deposit(self.layers).sample(rho, t)

    def points(self, rho: Particles) -> tuple[Index, Array, Array]:
        """Three Gauss points in each layer of each interval, exact where the integrand is a quintic in each layer."""
        start, width = self.ends(rho)
        first = np.minimum((start * self.layers).astype(np.int64), self.layers - 1)
        last = np.clip(np.ceil((start + width) * self.layers).astype(np.int64) - 1, first, self.layers - 1)
        particle, layer = _ranges(first, last)
        # Cuts in units of the width, so that the shares of a narrow interval have sum 1 to rounding.
        by = np.where(width > 0, width, 1.0)[particle]
        low, high = (((layer + k) / self.layers - start[particle]) / by for k in (0, 1))
        low = np.where(layer == first[particle], 0.0, np.clip(low, 0.0, 1.0))
        high = np.where(layer == last[particle], 1.0, np.clip(high, 0.0, 1.0))
        share = high - low
        inside = low[:, None] + share[:, None] * _NODES
        t = start[particle, None] + width[particle, None] * inside
        return np.repeat(particle, len(_NODES)), t.ravel(), np.outer(share, _SHARES).ravel()

    def network(self, rho: Particles) -> Network:
        """Layers with each particle's mass spread over its interval, one entry for a particle in a layer."""
        self._check(rho)
        entries = self._entries(rho)
        return Network(entries.first, entries.particle, rho.mass[entries.particle] * entries.share)

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -sum_k c_k d_theta g and v_tau = -sum_k c'_k g / (1 - w), c_k the mean of S_k over the interval."""
        by_theta, by_tau, _ = self.transpose(rho, net)
        own = np.argsort(net.particle, kind="stable")
        starts = np.searchsorted(net.particle[own], np.arange(len(rho)))
        v_theta = np.add.reduceat((by_theta[:, None] * slope)[own], starts, axis=0)
        return -v_theta, -np.add.reduceat((by_tau * value)[own], starts)

    def transpose(self, rho: Particles, net: Network) -> Transpose:
        """Factors c_k and c'_k / (1 - w)."""
        entries, room = self._entries(rho), 1.0 - self.ends(rho)[1]
        per_room = np.divide(1.0, room, out=np.zeros_like(room), where=room > 0)
        return Transpose(entries.share, entries.slope * per_room[entries.particle], False)

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """Mass (1 - w)**2: the interval moves by (1 - w) v_tau, with kappa = 1/mass as for theta."""
        return np.asarray(rho.mass * (1.0 - self.ends(rho)[1]) ** 2)

    def _entries(self, rho: Particles) -> _Entries:
        particle, t, share = self.points(rho)
        stencil = self.sample(rho, t)
        starts = np.searchsorted(particle, np.arange(len(rho)))
        lowest = np.minimum.reduceat(stencil.layer.min(axis=1), starts)
        highest = np.maximum.reduceat(stencil.layer.max(axis=1), starts)
        owner, layer = _ranges(lowest, highest)
        place = (np.searchsorted(owner, np.arange(len(rho))) - lowest)[particle, None] + stencil.layer
        means = [
            np.bincount(place.ravel(), (share[:, None] * each).ravel(), minlength=len(owner)).astype(np.float64)
            for each in (stencil.weight, stencil.slope)
        ]
        order = np.argsort(layer, kind="stable")
        first = np.searchsorted(layer[order], np.arange(self.layers + 1))
        return _Entries(first, owner[order], means[0][order], means[1][order])


class _Entries(NamedTuple):
    """Bounds of the layers (L + 1,); particle of each entry (E,), and means of S_k and of S_k' over its interval."""

    first: Index
    particle: Index
    share: Array
    slope: Array


def _ranges(first: Index, last: Index) -> tuple[Index, Index]:
    """Row i and number k for all first_i <= k <= last_i, in order."""
    counts = last - first + 1
    row = np.repeat(np.arange(len(first)), counts)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts - first, counts)
