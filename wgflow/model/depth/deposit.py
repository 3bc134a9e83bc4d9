"""Schemes that deposit each particle's mass on layers: Deposit with a smooth shape function, Layers and Shallow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Index
from wgflow.base.validate import whole
from wgflow.model.depth.base import Depth, Network, Stencil, Transpose
from wgflow.model.particles import Particles


class DepositionScheme(Depth):
    """Schemes in which a particle's mass goes to layers by a shape function of its depth.

    weight_e = mass_i S_k(tau_i), so v_theta,i = -sum_k S_k d_theta g and v_tau,i = -sum_k S'_k g: the gradient of
    -dE/drho exactly, without dividing by the mass.
    """

    layers: int

    def network(self, rho: Particles) -> Network:
        """Layers with each particle's mass deposited on them."""
        self._check(rho)
        stencil = self.sample(rho, rho.tau)
        place = _by_layer(stencil)
        reach = stencil.layer.shape[1]
        weight = (rho.mass[:, None] * stencil.weight).ravel()[place]
        first = np.searchsorted(stencil.layer.ravel()[place], np.arange(self.layers + 1))
        return Network(first, place // reach, weight)

    def velocity(self, rho: Particles, net: Network, value: Array, slope: Array) -> tuple[Array, Array]:
        """v_theta = -d_theta dE/drho and v_tau = -d_t dE/drho at the particles."""
        stencil = self.sample(rho, rho.tau)
        place, (count, reach) = _by_layer(stencil), stencil.layer.shape
        back = np.empty(len(place), np.int64)
        back[place] = np.arange(len(place))
        if reach == 1:  # one layer per particle: its weight is 1, and tau does not move
            v_theta = np.take(slope, back, axis=0)
            return np.negative(v_theta, out=v_theta), np.zeros(count)
        v_theta = -np.einsum("nr,nrp->np", stencil.weight, slope[back].reshape(count, reach, -1))
        v_tau = -np.einsum("nr,nr->n", stencil.slope, value[back].reshape(count, reach))
        return v_theta, v_tau

    def transpose(self, rho: Particles, net: Network) -> Transpose:
        """Factors S_k and S'_k."""
        if not self.moves:
            return Transpose(np.ones(len(rho)), np.empty(0), False)
        stencil = self.sample(rho, rho.tau)
        place = _by_layer(stencil)
        return Transpose(stencil.weight.ravel()[place], stencil.slope.ravel()[place], False)

    def _check(self, rho: Particles) -> None:
        if rho.free and ((rho.tau < 0) | (rho.tau > 1)).any():
            raise InputError(
                f"tau: expected depths in [0, 1] under {self.name}, got some outside; only gaps can hold them"
            )


def _by_layer(stencil: Stencil) -> Index:
    """Entries (particle, r) in the order of their layers, particles in order within one."""
    return np.argsort(stencil.layer.ravel(), kind="stable")


@dataclass(frozen=True)
class Layers(DepositionScheme):
    """Ding, Chen, Li and Wright (arXiv:2110.02926), eq. (1): L layers of equally many particles that stay in them.

    X <- X + (1/(L M_l)) sum_m f(X, theta_(l,m)), layer = floor(tau L). The marginal in depth is fixed: tau never moves.

    Parameters
    ----------
    layers : int
        L >= 1.
    """

    layers: int
    name: ClassVar[str] = "layers"
    moves: ClassVar[bool] = False

    def _check_options(self) -> None:
        whole("layers", self.layers)

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """The layer in which t lies; t = 1 belongs to the last."""
        return Stencil.piecewise(np.minimum((np.asarray(t) * self.layers).astype(np.int64), self.layers - 1))

    def _check(self, rho: Particles) -> None:
        super()._check(rho)
        counts = np.bincount(self.sample(rho, rho.tau).layer[:, 0], minlength=self.layers)
        if counts.min() != counts.max():
            raise InputError(
                f"tau: expected equally many particles in each of {self.layers} layers, got {counts.min()} to "
                f"{counts.max()}; Particles.draw_layers places them"
            )
        if rho.mass.min() != rho.mass.max() or abs(rho.mass[0] * len(rho) - 1) > 1e-6:  # single precision will do
            raise InputError(
                f"mass: expected equal weights 1/N = {1 / len(rho):.9g} under layers, got {rho.mass.min():.9g} to "
                f"{rho.mass.max():.9g}; leave mass out, or use Deposit"
            )


@dataclass(frozen=True)
class Deposit(DepositionScheme):
    """The joint measure on Theta x [0, 1] as particle-in-cell: each particle's mass goes to its nearest layers.

    Replaces the overlapping intervals of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3. With the quadratic
    B-spline (triangular-shaped cloud), u = L tau - 1/2, k = round(u), r = u - k,

        S_(k-1) = (1/2 - r)**2 / 2,   S_k = 3/4 - r**2,   S_(k+1) = (1/2 + r)**2 / 2,

    indices clipped to 0..L-1. E is C^1 in tau, so tau moves along the true Wasserstein gradient.

    Parameters
    ----------
    layers : int
        L >= 1.
    shape : {"spline", "hat"}, optional
        ``hat``, piecewise linear (cloud-in-cell), is a negative control: E has kinks at the layers, which are its
        minima, and the flow oscillates about them.
    """

    layers: int
    shape: str = "spline"
    name: ClassVar[str] = "deposit"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect")

    def _check_options(self) -> None:
        whole("layers", self.layers)
        check_name("shape of deposit", self.shape, ("spline", "hat"))

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Layers, weights and slopes of the shape function at t."""
        u = self.layers * np.asarray(t) - 0.5
        if self.shape == "hat":
            k, offsets = np.floor(u), [0, 1]
            r = u - k
            weights, slopes = [1.0 - r, r], [-np.ones_like(r), np.ones_like(r)]
        else:
            k, offsets = np.rint(u), [-1, 0, 1]
            r = u - k
            weights = [0.5 * (0.5 - r) ** 2, 0.75 - r**2, 0.5 * (0.5 + r) ** 2]
            slopes = [r - 0.5, -2.0 * r, r + 0.5]
        layer = np.clip(k.astype(np.int64)[:, None] + offsets, 0, self.layers - 1)
        return Stencil(layer, np.stack(weights, axis=1), self.layers * np.stack(slopes, axis=1))

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """The masses: kappa = 1/mass, as for theta."""
        return rho.mass


@dataclass(frozen=True)
class Shallow(DepositionScheme):
    """Two-layer limit of the same measure: X(1) = X(0) + int f(X(0), theta) rho.

    The classic model of mean-field theory (E is convex in rho for a convex loss), and the first order of the ensemble
    expansion. tau plays no role and never moves.
    """

    name: ClassVar[str] = "shallow"
    moves: ClassVar[bool] = False
    layers = 1

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """The only layer, at any depth."""
        return Stencil.piecewise(np.zeros(len(t), np.int64))
