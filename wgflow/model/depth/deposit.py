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

    Replaces the overlapping intervals of Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508), section 3. Layer k stands for the
    depths k/L to (k + 1)/L. With the quadratic B-spline B at u = L tau - 1/2 the shape functions are

        S_k(tau) = B(u - k) - (B(u - k - 1) - 2 B(u - k) + B(u - k + 1))/6

    for layers k = -2..L+1, four of which are ghosts: their first variations are extrapolated by the quadratic with the
    averages of the three outer layers, 3 g_0 - 3 g_1 + g_2 and 6 g_0 - 8 g_1 + 3 g_2, so that their weights go to those
    layers with these factors. E is C^1 in tau, so tau moves along the true Wasserstein gradient.

    Parameters
    ----------
    layers : int
        L >= 1. Two layers are interpolated linearly; one leaves E independent of tau.
    shape : {"spline", "clipped", "hat"}, optional
        ``clipped`` is the B-spline alone, on three layers, those outside counted as the outermost. Its weights are >= 0
        and steps may be longer, but its slope is 0 at tau = 0 and 1, where particles stop, and falls to that within
        half a layer.
        ``hat``, piecewise linear (cloud-in-cell), is a negative control: E has kinks at the layers, which are its
        minima, and the flow oscillates about them.

    Notes
    -----
    Deposition and interpolation share one matrix, since v_tau = -sum_k S_k' g_k is the exact derivative of E, with
    g_k = mean f(X_k, theta) . p_(k+1). For v_tau to tend to -d_t dE/drho up to the boundary, two things are needed
    (derived): the interpolant is exact for linear functions, sum_k (k + 1/2) S_k = L tau, and the layers' states lie
    where it assumes them, X_k at depth k/L, so int_0^1 S_k dtau = 1/L for each k. Together the two fix the flux of the
    first moment through every boundary between layers, and with it the mean of V = sum_k (k - u)**2 S_k over a layer:
    it is -1/12, as for functions that recover quadratics from their averages over layers. These do, with V = -1/12
    everywhere. Weights >= 0 cannot even be exact for linear functions at the boundary: their mean depth stays half a
    layer away. The weights here are above -0.1 inside, 11/6, -7/6, 1/3 at tau = 0, and have sum 1.

    Compared, with d = d_t dE/drho = A + B at tau = 0, A = mean d_x f X' . p and B = mean f . p':

    =====================================================  ======  ==================  ===========
    shape function                                         layers  v_tau at tau = 0    order inside
    =====================================================  ======  ==================  ===========
    quadratic B-spline, outer layers' part clipped         3       0                   1
    the same, outer layers extrapolated linearly           3       -(7 A + 5 B)/6      1
    this one                                               5       -(A + B), order 1   1
    =====================================================  ======  ==================  ===========

    The first order is that of the Euler steps between layers. Errors of d_t dE/drho with smooth particles (the problem
    of ``tests/model/test_deposit_boundary.py``; the values are -0.143, -0.143, -0.128 and -0.113):

    =====  ========  ==========  =========  ========  =============
    L      tau = 0   tau = 0.01  tau = 0.5  tau = 1   clipped, at 0
    =====  ========  ==========  =========  ========  =============
    8      0.0110    0.0106      0.0047     0.0038    0.143
    16     0.0051    0.0048      0.0024     0.0018    0.143
    32     0.0025    0.0022      0.0012     0.0009    0.143
    64     0.0012    0.0009      0.0006     0.0004    0.143
    128    0.0006    0.0003      0.0003     0.0002    0.143
    order  1.05      1.25        1.00       1.03      0.00
    =====  ========  ==========  =========  ========  =============

    The error of E is 0.0006 at L = 8 and 0.00004 at L = 128 with either, of order 1.

    Fewer layers can satisfy both conditions too. The V of a C^1 quartic on three swings between -3/8 and 1/4, and with
    it the curvature of E in tau between 6 and -9 times the right one. A C^1 cubic on four is stiffer in tau: its second
    derivative, applied to values that alternate from layer to layer, is up to 14 L**2, against 6.7 L**2 here and
    4 L**2 for the B-spline. So steps may have to be shorter than with the B-spline: with Euler steps of 0.1 E rose in
    some runs of ``landscape``, with 0.05 in none. Stiffness grows along a run, most where birth-death gathers mass on
    few particles: in one of ``escape`` the largest eigenvalue of the Hessian (in the metric of the flow), whose vector
    is motion in depth, grew from 4 at s = 0 to 48 at s = 41.5 (10 for the B-spline there), 107 at 57.7 and 192 at 83.6,
    and E rose as soon as it exceeded 2/h. Error control, ``heun`` under the ``adaptive`` rule, follows it.
    """

    layers: int
    shape: str = "spline"
    name: ClassVar[str] = "deposit"
    boundaries: ClassVar[tuple[str, ...]] = ("clip", "reflect")

    def _check_options(self) -> None:
        whole("layers", self.layers)
        check_name("shape of deposit", self.shape, ("spline", "clipped", "hat"))

    @property
    def reach(self) -> int:
        """Number of layers in a stencil."""
        if self.shape == "clipped":
            return 3
        return 2 if self.shape == "hat" or self.layers <= 2 else 5

    def sample(self, rho: Particles, t: Array) -> Stencil:
        """Layers, weights and slopes of the shape function at t."""
        u = self.layers * np.asarray(t) - 0.5
        if self.shape == "clipped":
            k, offsets = np.rint(u), [-1, 0, 1]
            weights, slopes = _spline(u - k)
        elif self.reach == 2:
            k = np.clip(np.floor(u), 0, max(self.layers - 2, 0))
            x, one = u - k, np.ones_like(u)
            offsets, weights, slopes = [0, 1], [1.0 - x, x], [-one, one]
        else:
            k, offsets = np.clip(np.rint(u), 0, self.layers - 1), [-2, -1, 0, 1, 2]
            weights, slopes = (_sharpened(*shares) for shares in _spline(u - k))
            for shares in (weights, slopes):
                _fold(shares, k)
                _fold(shares[::-1], self.layers - 1 - k)
        layer = np.clip(k.astype(np.int64)[:, None] + offsets, 0, self.layers - 1)
        return Stencil(layer, np.stack(weights, axis=1), self.layers * np.stack(slopes, axis=1))

    def inverse_tau_mobility(self, rho: Particles) -> Array:
        """The masses: kappa = 1/mass, as for theta."""
        return rho.mass


def _spline(r: Array) -> tuple[list[Array], list[Array]]:
    """The quadratic B-spline at three layers, and its slope, at a distance r from the middle one."""
    return [0.5 * (0.5 - r) ** 2, 0.75 - r**2, 0.5 * (0.5 + r) ** 2], [r - 0.5, -2.0 * r, r + 0.5]


def _sharpened(a: Array, b: Array, c: Array) -> list[Array]:
    """Weights a, b, c of three layers less a sixth of their second difference: those of five layers."""
    return [-a / 6.0, (8.0 * a - b) / 6.0, (8.0 * b - (a + c)) / 6.0, (8.0 * c - b) / 6.0, -c / 6.0]


def _fold(shares: list[Array], inside: Array) -> None:
    """Move, in place, the weights of ghost layers to the three outer layers.

    ``shares`` runs inwards from two layers outside of the layer that lies ``inside`` the outermost one.
    """
    ghosts = [np.where(inside == 0, shares[0], 0.0), np.where(inside == 0, shares[1], 0.0)]
    single = np.where(inside == 1, shares[0], 0.0)
    shares[0] -= ghosts[0] + single
    shares[1] += 3.0 * single - ghosts[1]
    shares[2] += 6.0 * ghosts[0] + 3.0 * ghosts[1] - 3.0 * single
    shares[3] += single - (8.0 * ghosts[0] + 3.0 * ghosts[1])
    shares[4] += 3.0 * ghosts[0] + ghosts[1]


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
