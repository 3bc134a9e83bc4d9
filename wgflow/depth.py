"""Depth schemes: how particles become layers, and how the layers' gradients become velocities of particles.

A scheme turns a measure into a :class:`Network`, a list of layers each holding weighted particles,

    X_(k+1) = X_k + sum_(e in layer k) weight_e f(X_k, theta_particle(e)),

for which a kernel returns, at every entry e, the first variation g_e = mean_m f(X_k, theta) . p_(k+1) = dE/dweight_e
and its gradient in theta. The scheme then applies the transpose of what it did. Different schemes are different
models; their theorems are not mixed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.errors import InputError, unknown
from wgflow.particles import Particles
from wgflow.types import Array, Index, Spec


class Network(NamedTuple):
    """Layers as rows of a sparse matrix (compressed rows).

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        Layer k holds the entries first[k] <= e < first[k + 1].
    particle : ndarray (E,), int64
        Row of theta each entry takes its parameters from.
    weight : ndarray (E,)
        Weight of each entry in its layer's step.
    """

    first: Index
    particle: Index
    weight: NDArray[Any]

    @property
    def layers(self) -> int:
        """Number of layers L."""
        return len(self.first) - 1


class Depth(ABC):
    """What a depth scheme has to offer."""

    name: ClassVar[str]
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect")

    @abstractmethod
    def network(self, rho: Particles) -> Network:
        """Layers of the measure; raises InputError if the scheme cannot hold it."""

    @abstractmethod
    def locate(self, rho: Particles, t: Array) -> Index:
        """Index k of the layer whose X_k and p_(k+1) give the first variation at depth t; (Q,) to (Q,).

        The value L, one past the last layer, stands for X(1) and p(1).
        """

    @abstractmethod
    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """Velocities (N, P) and (N,) from the kernel's g_e, (E,), and d_theta g_e, (E, P)."""

    @abstractmethod
    def kappa(self, rho: Particles) -> Array:
        """Factors kappa_i of v_tau,i = -kappa_i dE/dtau_i, (N,)."""

    def order(self, tau: Array) -> Index | None:
        """Order of the particles along depth where it matters to E, else None."""
        del tau
        return None

    def spec(self) -> Spec:
        """Plain JSON from which :func:`depth` rebuilds this scheme."""
        return {"name": self.name}


@dataclass(frozen=True)
class Gaps(Depth):
    """Algorithm 1 of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508): sort by depth, step by the gaps.

    X <- X + (tau^l - tau^(l-1)) f(X, theta^l) over the particles sorted by tau, ties by index, tau^(-1) = 0. The
    measure behind it is sum_l delta_(theta^l) 1_(tau^(l-1), tau^l](t): integrals against rho use the gaps, not the
    mass. Neighbours share a boundary, so dE/dtau^l = g_l - g_(l+1) (g_last at the end), and E jumps where two depths
    cross. This is that algorithm's descent, not the Wasserstein velocity in tau.
    """

    name: ClassVar[str] = "gaps"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect", "free")

    def order(self, tau: Array) -> Index:
        """Particles by increasing tau, ties by particle index."""
        return np.argsort(tau, kind="stable")

    def network(self, rho: Particles, order: Index | None = None) -> Network:
        """One layer a particle, its weight the gap to the one before.

        Parameters
        ----------
        rho : Particles
            The measure.
        order : ndarray (N,), optional
            An order to use instead of the sorted one: the gaps may then be negative, which continues E smoothly past
            a crossing (this is how the size of a jump is measured).
        """
        if (rho.mass <= 0).any():
            raise InputError(
                "mass: expected weights > 0 under Gaps, which divides by them, got 0; drop those particles"
            )
        order = self.order(rho.tau) if order is None else order
        return Network(np.arange(len(rho) + 1), order, np.diff(rho.tau[order], prepend=0.0))

    def locate(self, rho: Particles, t: Array) -> Index:
        """Layer l for t in (tau^(l-1), tau^l], N beyond the last tau."""
        return np.searchsorted(np.sort(rho.tau), t, side="left")

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -(gap/mass) d_theta g, v_tau = -mass (g_l - g_(l+1))."""
        v_theta, v_tau = np.empty_like(slope), np.empty_like(value)
        mass = rho.mass[net.particle]
        v_theta[net.particle] = -(net.weight / mass)[:, None] * slope
        v_tau[net.particle] = -mass * (value - np.append(value[1:], 0.0))
        return v_theta, v_tau

    def kappa(self, rho: Particles) -> Array:
        """The masses: dE/dtau is of order one here, and 1/mass would throw every particle to an end in one step."""
        return rho.mass


@dataclass(frozen=True)
class Shallow(Depth):
    """Two-layer limit of the same measure: X(1) = X(0) + int f(X(0), theta) rho.

    The classic model of mean-field theory (E is convex in rho), and the first order of the ensemble expansion.
    tau plays no part and never moves.
    """

    name: ClassVar[str] = "shallow"
    boundaries: ClassVar[tuple[str, ...]] = ("clip",)

    def network(self, rho: Particles) -> Network:
        """One layer with every particle, weighted by its mass."""
        return Network(np.array([0, len(rho)]), np.arange(len(rho)), rho.mass)

    def locate(self, rho: Particles, t: Array) -> Index:
        """The one layer, at any depth."""
        return np.zeros(len(t), np.int64)

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -d_theta dE/drho, v_tau = 0."""
        return -slope, np.zeros(len(rho))

    def kappa(self, rho: Particles) -> Array:
        """Zero: tau never moves."""
        return np.zeros(len(rho))


DEPTHS: dict[str, type[Gaps] | type[Shallow]] = {"gaps": Gaps, "shallow": Shallow}


def depth(choice: str | Spec | Depth) -> Depth:
    """Look up a depth scheme by name or spec; a scheme object is passed through.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if isinstance(choice, Depth):
        return choice
    name = choice if isinstance(choice, str) else choice.get("name")
    if name not in DEPTHS:
        raise unknown("depth scheme", name, DEPTHS)
    return DEPTHS[name]()


def switches(before: Index, after: Index) -> int:
    """Pairs of particles whose order along depth differs between two orders.

    Parameters
    ----------
    before, after : ndarray (N,)
        Particles in order of depth, as :meth:`Depth.order` gives them.

    Returns
    -------
    int
        Number of inversions, counted in time proportional to the particles that moved.
    """
    place = np.empty(len(before), np.int64)
    place[after] = np.arange(len(after))
    ranks = place[before]  # new place of the particle that was k-th
    # Between two positions where a prefix maps onto itself lies one run of particles that mixed among themselves.
    ends = np.flatnonzero(np.maximum.accumulate(ranks) == np.arange(len(ranks))) + 1
    starts = np.concatenate([[0], ends[:-1]])
    count = 0
    for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
        seen: list[int] = []
        for k, rank in enumerate(ranks[start:end].tolist()):
            at = bisect_left(seen, rank)
            count += k - at
            seen.insert(at, rank)
    return count
