"""Depth schemes on a device: the layers of particles that are there, and the velocity from the layers' gradients.

The counterparts of :mod:`wgflow.model.depth`, which holds the formulas; the kernels are in ``order.cu`` and
``particles.cu``.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from wgflow.base.types import Index
from wgflow.flow.device_status import Launcher, runs
from wgflow.model.depth import Deposit, Depth, Gaps, Network


class Layers(Protocol):
    """Layers of one state. Its arrays are overwritten by the next :meth:`arrange`.

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        As in :class:`wgflow.model.depth.Network`; on the host.
    particle, weight : device arrays (E,)
        Likewise, on the device.
    inverted : device array (N,), int64, or None
        Pairs of particles that changed places, counted at one of them; None where order does not matter.
    """

    first: Index
    particle: Any
    weight: Any
    inverted: Any

    def arrange(self, tau: Any, before: Layers | None = None) -> None:
        """Find the layers of particles at these depths, and who changed places since the state ``before``."""

    def velocity(self, value: Any, slope: Any, *rest: Any) -> None:
        """Start the kernel of the velocity from g_e, (E,), and d_theta g_e, (E, P)."""


class Sorted:
    """Layers of :class:`wgflow.model.depth.Gaps`: one a particle, by (tau, index), weighted by the gaps.

    Parameters
    ----------
    launcher : Launcher
        Of the device.
    count, parameters : int
        N and P.
    """

    def __init__(self, launcher: Launcher, count: int, parameters: int) -> None:
        self._launcher, self._count, self._parameters = launcher, count, parameters
        empty = launcher.device.empty
        self.first: Index = np.arange(count + 1)
        self.particle, self.weight = empty(count, np.int64), empty(count, np.float64)
        self.inverted, self._rank = empty(count, np.int64), empty(count, np.int64)

    def arrange(self, tau: Any, before: Layers | None = None) -> None:
        """Sort by counting."""
        ranks = before._rank if isinstance(before, Sorted) else self._rank
        places = (self.particle, self._rank, self.weight, self.inverted)
        self._launcher.search("order_gaps", self._count, self._count, tau, ranks, int(before is not None), *places)

    def velocity(self, value: Any, slope: Any, *rest: Any) -> None:
        """Start the kernel."""
        sizes, own = (self._count, self._parameters), (self._rank, self.weight)
        self._launcher.tiles("velocity_gaps", self._count, 2, *sizes, *own, value, slope, *rest)


class Fixed:
    """Layers that particles never leave: those of the depth schemes Layers and Shallow.

    Parameters
    ----------
    launcher, count, parameters : Launcher, int, int
        As for :class:`Sorted`.
    net : Network
        The layers, one entry a particle.
    """

    inverted = None

    def __init__(self, launcher: Launcher, count: int, parameters: int, net: Network) -> None:
        self._launcher, self._count, self._parameters = launcher, count, parameters
        put = launcher.device.put
        self.first: Index = np.asarray(net.first, np.int64)
        self.particle, self.weight = put(np.asarray(net.particle, np.int64)), put(np.asarray(net.weight, np.float64))
        place = np.empty(count, np.int64)
        place[net.particle] = np.arange(count)
        self._place = put(place)

    def arrange(self, tau: Any, before: Layers | None = None) -> None:
        """Nothing to do."""

    def velocity(self, value: Any, slope: Any, *rest: Any) -> None:
        """Start the kernel; with one layer a particle it reads neither weights of layers nor their slopes."""
        own = (self._count, self._parameters, 1, self._place, self.weight, self.weight)
        self._launcher.tiles("velocity_layers", self._count, 2, *own, value, slope, *rest)


class Deposited:
    """Layers of the depth scheme Deposit. Their L + 1 bounds cross to the host whenever particles have moved.

    Parameters
    ----------
    launcher, count, parameters : Launcher, int, int
        As for :class:`Sorted`.
    scheme : Deposit
        L and the shape function.
    mass : device array (N,)
        Weights of the particles.
    """

    inverted = None

    def __init__(self, launcher: Launcher, count: int, parameters: int, scheme: Deposit, mass: Any) -> None:
        self._launcher, self._count, self._parameters, self._mass = launcher, count, parameters, mass
        self._layers, self._reach = scheme.layers, 2 if scheme.shape == "hat" else 3
        self._entries = entries = count * self._reach
        empty = launcher.device.empty
        self.first: Index = np.zeros(self._layers + 1, np.int64)
        self.particle, self.weight = empty(entries, np.int64), empty(entries, np.float64)
        self._layer, self._place = empty(entries, np.int64), empty(entries, np.int64)
        self._share, self._share_slope = empty(entries, np.float64), empty(entries, np.float64)
        self._table = empty((runs(entries), self._layers), np.int64)
        self._first = empty(self._layers + 1, np.int64)

    def arrange(self, tau: Any, before: Layers | None = None) -> None:
        """Evaluate the shape function, count the layers' entries, place them."""
        start, entries, layers = self._launcher, self._entries, self._layers
        made = (self._layer, self._share, self._share_slope)
        start.each("deposit_stencil", self._count, self._count, layers, self._reach, tau, *made)
        start.runs("count_layers", entries, entries, layers, self._layer, self._table)
        start.judge("first_of_layers", runs(entries), layers, self._table, self._first)
        placed = (self._table, self._first, self.particle, self.weight, self._place)
        start.runs(
            "place_entries", entries, entries, layers, self._reach, self._layer, self._share, self._mass, *placed
        )
        self.first = start.device.get(self._first)

    def velocity(self, value: Any, slope: Any, *rest: Any) -> None:
        """Start the kernel."""
        own = (self._count, self._parameters, self._reach, self._place, self._share, self._share_slope)
        self._launcher.tiles("velocity_layers", self._count, 2, *own, value, slope, *rest)


def layers(depth: Depth, launcher: Launcher, net: Network, shape: tuple[int, int], mass: Any) -> Layers:
    """Layers of a built-in scheme for N particles of P parameters, not yet arranged.

    Parameters
    ----------
    depth : Depth
        Gaps, Layers, Deposit or Shallow.
    launcher : Launcher
        Of the device.
    net : Network
        Layers at the start.
    shape : (int, int)
        N and P.
    mass : device array (N,)
        Weights of the particles.
    """
    if isinstance(depth, Gaps):
        return Sorted(launcher, *shape)
    if isinstance(depth, Deposit):
        return Deposited(launcher, *shape, depth, mass)
    return Fixed(launcher, *shape, net)
