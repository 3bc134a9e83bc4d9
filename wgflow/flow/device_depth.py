"""Depth schemes on a device: from particles to layers, and from the layers' gradients to velocities.

Counterparts of :mod:`wgflow.model.depth`, which holds the formulas; the kernels are in ``order.cu`` and
``particles.cu``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wgflow.base.types import Index
from wgflow.flow.device_status import Launcher, spans
from wgflow.model.depth import Deposit, Depth, Gaps, Network


class DeviceLayers:
    """Layers of one state of N particles with P parameters; the next :meth:`arrange` overwrites the arrays.

    Attributes
    ----------
    first : ndarray (L + 1,), int64
        As in :class:`wgflow.model.depth.Network`, on the host.
    particle, weight : device arrays (E,)
        Likewise, on the device.
    inversions : device array (N,), int64, or None
        Pairs of particles that changed places, counted at one of the two; None where order does not matter.
    """

    first: Index
    particle: Any
    weight: Any
    inversions: Any = None
    _kernel = "velocity_layers"
    _own: tuple[Any, ...]  # the kernel's arguments between the sizes and the gradients

    def __init__(self, launcher: Launcher, count: int, parameters: int) -> None:
        self._launcher, self._count, self._parameters = launcher, count, parameters

    def arrange(self, tau: Any, before: DeviceLayers | None = None) -> None:
        """Compute the layers of particles at these depths, and the order switches since the state ``before``."""

    def continue_(self, tau: Any, before: DeviceLayers) -> None:
        """Compute the layers of particles at these depths in the order of ``before``, whatever theirs is."""
        self.arrange(tau)

    def velocity(self, value: Any, slope: Any, *rest: Any) -> None:
        """Start the kernel of the velocity from g_e, (E,), and d_theta g_e, (E, P)."""
        sizes = (self._count, self._parameters)
        self._launcher.tiles(self._kernel, self._count, 2, *sizes, *self._own, value, slope, *rest)


class GapLayers(DeviceLayers):
    """Layers of :class:`wgflow.model.depth.Gaps`: one per particle, sorted by (tau, index), weighted by the gaps."""

    _kernel = "velocity_gaps"

    def __init__(self, launcher: Launcher, count: int, parameters: int) -> None:
        super().__init__(launcher, count, parameters)
        empty = launcher.device.empty
        self.first = np.arange(count + 1)
        self.particle, self.weight = empty(count, np.int64), empty(count, np.float64)
        self.inversions, self._rank = empty(count, np.int64), empty(count, np.int64)
        self._own = (self._rank, self.weight)

    def arrange(self, tau: Any, before: DeviceLayers | None = None) -> None:
        """Sort by counting."""
        ranks = before._rank if isinstance(before, GapLayers) else self._rank
        places = (self.particle, self._rank, self.weight, self.inversions)
        self._launcher.all_pairs("order_gaps", self._count, self._count, tau, ranks, int(before is not None), *places)

    def continue_(self, tau: Any, before: DeviceLayers) -> None:
        """Keep the order; gaps may then be negative."""
        places = (self.particle, self._rank, self.weight)
        self._launcher.elementwise("continue_gaps", self._count, self._count, tau, before.particle, *places)


class FixedLayers(DeviceLayers):
    """Layers that never change: those of the depth schemes Layers and Shallow, one entry per particle."""

    def __init__(self, launcher: Launcher, count: int, parameters: int, net: Network) -> None:
        super().__init__(launcher, count, parameters)
        put = launcher.device.put
        self.first = np.asarray(net.first, np.int64)
        self.particle, self.weight = put(np.asarray(net.particle, np.int64)), put(np.asarray(net.weight, np.float64))
        place = np.empty(count, np.int64)
        place[net.particle] = np.arange(count)
        # With one layer per particle the kernel reads neither the layers' weights nor their slopes.
        self._own = (1, put(place), self.weight, self.weight)


class DepositLayers(DeviceLayers):
    """Layers of the depth scheme Deposit. Their L + 1 bounds are copied to the host whenever particles have moved."""

    def __init__(self, launcher: Launcher, count: int, parameters: int, scheme: Deposit, mass: Any) -> None:
        super().__init__(launcher, count, parameters)
        self._mass, self._layers, self._reach = mass, scheme.layers, scheme.reach
        self._entries = entries = count * self._reach
        empty = launcher.device.empty
        self.first = np.zeros(self._layers + 1, np.int64)
        self.particle, self.weight = empty(entries, np.int64), empty(entries, np.float64)
        self._layer, self._place = empty(entries, np.int64), empty(entries, np.int64)
        self._share, self._share_slope = empty(entries, np.float64), empty(entries, np.float64)
        self._table = empty((spans(entries), self._layers), np.int64)
        self._first = empty(self._layers + 1, np.int64)
        self._own = (self._reach, self._place, self._share, self._share_slope)

    def arrange(self, tau: Any, before: DeviceLayers | None = None) -> None:
        """Evaluate the shape function, count the entries of every layer, and place them."""
        launcher, entries, layers = self._launcher, self._entries, self._layers
        stencil = (self._layer, self._share, self._share_slope)
        launcher.elementwise("deposit_stencil", self._count, self._count, layers, self._reach, tau, *stencil)
        launcher.spans("count_layers", entries, entries, layers, self._layer, self._table)
        launcher.single_block("first_of_layers", spans(entries), layers, self._table, self._first)
        placed = (self._table, self._first, self.particle, self.weight, self._place)
        launcher.spans(
            "place_entries", entries, entries, layers, self._reach, self._layer, self._share, self._mass, *placed
        )
        self.first = launcher.device.get(self._first)


def device_layers(depth: Depth, launcher: Launcher, net: Network, shape: tuple[int, int], mass: Any) -> DeviceLayers:
    """Layers of a built-in scheme, not yet arranged, from those at the start, (N, P) and the masses on the device."""
    if isinstance(depth, Gaps):
        return GapLayers(launcher, *shape)
    if isinstance(depth, Deposit):
        return DepositLayers(launcher, *shape, depth, mass)
    return FixedLayers(launcher, *shape, net)
