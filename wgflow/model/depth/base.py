"""What a depth scheme is: the network it makes of a measure, the stencil of its first variation, and its interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.registry import Options
from wgflow.base.types import Array, Index
from wgflow.model.particles import Particles


class Network(NamedTuple):
    """Layers as rows of a sparse matrix (compressed rows).

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        Layer k holds the entries first[k] <= e < first[k + 1].
    particle : ndarray (E,), int64
        Row of theta from which each entry takes its parameters.
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

    def with_queries(self, layer: Index, particle: Index) -> tuple[Network, Index]:
        """Network with an additional entry of weight 0 in the layer of each query, and the indices of those entries.

        An entry without weight changes nothing, and the kernel's g_e there is the first variation. Queries at layer L,
        one past the last, form an additional layer, whose X and p are X(1) and p(1).
        """
        counts = np.append(np.diff(self.first), 0)
        owner = np.concatenate([np.repeat(np.arange(len(counts)), counts), layer])
        place = np.argsort(owner, kind="stable")  # a layer's entries precede its queries
        both = np.concatenate([self.particle, particle])[place]
        weight = np.concatenate([self.weight, np.zeros(len(layer))])[place]
        first = np.concatenate([[0], np.cumsum(counts + np.bincount(layer, minlength=len(counts)))])
        entry = np.empty(len(owner), np.int64)
        entry[place] = np.arange(len(owner))
        return Network(first, both, weight), entry[len(self.particle) :]


class Stencil(NamedTuple):
    """Interpolation in depth: the R layers whose first variations are combined at each of Q depths.

    Attributes
    ----------
    layer : ndarray (Q, R), int64
        Layers k whose X_k and p_(k+1) give the first variation at each depth; L, one past the last, is X(1) and p(1).
    weight : ndarray (Q, R)
        Their weights, S_k(t), with sum 1.
    slope : ndarray (Q, R)
        dS_k/dt.
    """

    layer: Index
    weight: Array
    slope: Array

    @classmethod
    def piecewise(cls, layer: Index) -> Stencil:
        """Stencil of a first variation that is constant between layers, from the layer (Q,) of each depth."""
        layer = np.asarray(layer, np.int64)[:, None]
        return cls(layer, np.ones(layer.shape), np.zeros(layer.shape))


class Transpose(NamedTuple):
    """The velocities as sums over the entries e of each particle i, for compiled code.

    v_theta,i = -sum_e by_theta_e d_theta g_e and v_tau,i = -sum_e by_tau_e g_e.

    Attributes
    ----------
    by_theta : ndarray (E,)
        Factors in v_theta.
    by_tau : ndarray (E,) or (0,)
        Factors in v_tau; none where tau does not move.
    difference : bool
        Whether v_tau has g_e - g_(e+1) instead of g_e, with 0 after the last.
    """

    by_theta: Array
    by_tau: Array
    difference: bool


class Depth(Options, ABC):
    """Interface of a depth scheme."""

    boundaries: ClassVar[tuple[str, ...]] = ("clip",)
    moves: ClassVar[bool] = True  # whether tau moves

    @abstractmethod
    def network(self, rho: Particles) -> Network:
        """Layers of the measure; raises InputError if the measure does not fit the scheme."""

    @abstractmethod
    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Stencil of the first variation at depths t, (Q,)."""

    @abstractmethod
    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """Velocities (N, P) and (N,) from the kernel's g_e, (E,), and d_theta g_e, (E, P)."""

    def transpose(self, rho: Particles, net: Network) -> Transpose:
        """The map of :meth:`velocity` in another form; a scheme of your own needs none."""
        raise NotImplementedError

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """Factors 1/kappa_i in the dissipation v_tau,i**2 / kappa_i, (N,); zero where tau never moves."""
        return np.zeros(len(rho))

    def points(self, rho: Particles) -> tuple[Index, Array, Array]:
        """Points of the measure in depth: of each its particle, its depth, and its share of the particle.

        By default tau of each particle. Integrals over rho of what is smooth between layers are sums over these points.
        """
        return np.arange(len(rho)), rho.tau, np.ones(len(rho))

    def order(self, rho: Particles) -> Index | None:
        """Order of the particles in depth if E depends on it, else None."""
        return None

    def continued(self, rho: Particles, order: Index) -> Network:
        """Layers in another order of the particles, (N,), which continue E smoothly where it jumps at an order switch.

        By default those of :meth:`network`: E depends on the order continuously, or not at all.
        """
        return self.network(rho)
