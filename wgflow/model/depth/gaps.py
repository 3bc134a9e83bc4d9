"""Algorithm 1: particles sorted by depth, stepping by the gaps; and the number of order switches."""

from __future__ import annotations

import functools
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.model.depth.base import Depth, Network, Stencil, Transpose
from wgflow.model.particles import Particles


@dataclass(frozen=True)
class Gaps(Depth):
    """Algorithm 1 of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508): sort by depth, step by the gaps.

    X <- X + (tau^l - tau^(l-1)) f(X, theta^l) over the particles sorted by tau, ties by index, tau^(-1) = 0. The
    underlying measure is sum_l delta_(theta^l) 1_(tau^(l-1), tau^l](t): integrals against rho use the gaps, not the
    mass. Neighbours share a boundary, so dE/dtau^l = g_l - g_(l+1) (g_last at the end), and E jumps where two depths
    cross. This is that algorithm's descent, not the Wasserstein velocity in tau.
    """

    name: ClassVar[str] = "gaps"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect", "free")

    def order(self, rho: Particles) -> Index:
        """Particles by increasing tau, ties by particle index."""
        return rho.order

    def network(self, rho: Particles, order: Index | None = None) -> Network:
        """One layer per particle, weighted by the gap to the particle before.

        Parameters
        ----------
        rho : Particles
            The measure.
        order : ndarray (N,), optional
            An order to use instead of the sorted one: gaps may then be negative, which continues E smoothly past a
            crossing (used to measure the size of a jump).
        """
        if not rho.positive:
            raise InputError(
                "mass: expected weights > 0 under Gaps, which divides by them, got 0; drop those particles"
            )
        order = rho.order if order is None else order
        sorted_ = rho.tau[order]
        gaps = sorted_.copy()
        gaps[1:] -= sorted_[:-1]
        return Network(_one_each(len(rho)), order, gaps)

    def continued(self, rho: Particles, order: Index) -> Network:
        """Layers of the particles in the given order; gaps may then be negative."""
        return self.network(rho, order)

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Layer l for t in (tau^(l-1), tau^l], N beyond the last tau; constant in between."""
        return Stencil.piecewise(np.searchsorted(np.sort(rho.tau), t, side="left"))

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -(gap/mass) d_theta g, v_tau = -mass (g_l - g_(l+1))."""
        place = np.empty(len(rho), np.int64)
        place[net.particle] = np.arange(len(rho))
        v_theta = np.take(slope, place, axis=0)
        v_theta *= -(net.weight[place] / rho.mass)[:, None]
        after = np.append(value[1:], 0.0)
        return v_theta, -rho.mass * (value - after)[place]

    def transpose(self, rho: Particles, net: Network) -> Transpose:
        """Factors gap/mass and mass, of differences."""
        mass = rho.mass[net.particle]
        return Transpose(net.weight / mass, mass, True)

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """1/mass: dE/dtau is of order one, and kappa = 1/mass would send particles to the boundary in one step."""
        return 1.0 / rho.mass


@functools.lru_cache(4)
def _one_each(count: int) -> Index:
    """Bounds of layers of one particle each, (N + 1,): one array, by which a kernel knows the layers again."""
    first = np.arange(count + 1)
    first.setflags(write=False)
    return first


def switches(before: Index, after: Index) -> int:
    """Pairs of particles whose order in depth, (N,) as :meth:`Depth.order` returns it, differs between two states.

    Inversions are counted in time proportional to the particles that moved.
    """
    if before is after:  # one array, where the order is known to be the same
        return 0
    place = np.empty(len(before), np.int64)
    place[after] = np.arange(len(after))
    ranks = place[before]  # new place of the particle that was k-th
    # Between two positions where a prefix maps onto itself lies one run of particles permuted among themselves.
    ends = np.flatnonzero(np.maximum.accumulate(ranks) == np.arange(len(ranks))) + 1
    starts = np.concatenate([[0], ends[:-1]])
    length = ends - starts
    count = int(np.count_nonzero(length == 2))  # nearly all of them: two that changed places
    for start, end in zip(starts[length > 2], ends[length > 2], strict=True):
        earlier: list[int] = []
        for k, rank in enumerate(ranks[start:end].tolist()):
            at = bisect_left(earlier, rank)
            count += k - at
            earlier.insert(at, rank)
    return count
