"""Tangent kernels of a network, whole and at each depth, and the lower bounds of dissipation/E that they give.

Let r_m = W1 X_L(x_m) - y_m be the residuals of M samples and K outputs, and A_k(m) = (dX_L/dX_k)' W1', (D, K), the
adjoint transport of the readout. For the squared loss p_k(m) = A_k(m) r_m and |r|**2 = 2 M E. A scheme moves particle i
by v_i = -sum_e c_e d_theta g_e over its entries e, in layers k(e), where g_e = mean_m f(X_k, theta_i) . p_(k+1). With
G_i = sum_e c_e d_theta (A_(k+1)' f(X_k, theta_i)), (M K, P),

    v_i = -G_i' r / M   and   sum_i mass_i |v_i|**2 = r' Theta r / M**2,   Theta = sum_i mass_i G_i G_i'.

Motion in depth only adds terms >= 0 to the dissipation. Hence, exactly and for every scheme,

    dissipation/E >= (2/M) lambda_min(Theta)                                                   (the whole kernel).

If every particle lies in one layer (Layers, Shallow and Gaps), Theta is the sum over layers of
Theta_k = A_(k+1)' K_k A_(k+1), with the kernel of layer k on the states,

    K_k[(m, i), (m', j)] = sum_(e in layer k) mass_e c_e**2 <d_theta f_i(X_k(x_m)), d_theta f_j(X_k(x_m'))>,

under Layers and Shallow the integral against the measure in the layer: the conditional kernel times dt. By Weyl's
inequality, and with the smallest singular value s_min of the transport,

    lambda_min(Theta) >= sum_k lambda_min(Theta_k)                                             (by depth)
                      >= sum_k lambda_min(K_k) min_m s_min(A_(k+1)(m))**2                      (conditional).

Deposit averages a particle's gradient over its layers before it is squared, which makes the dissipation smaller than
the sum over layers (Jensen), so that only the whole kernel bounds it. A mobility multiplies columns of d_theta by its
square root. With a regulariser, or another loss, r and E are not related as above, and nothing is proved here.

No bound depends on y other than through the particles. A bound is vacuous where its kernels are singular: two equal
inputs suffice for Theta, rank Theta <= N P, and rank Theta_k, rank K_k <= N_k P for N_k particles of P parameters in
layer k, against M K and M D rows. A principal submatrix has a smallest eigenvalue at least as large as the matrix
(interlacing), so a subsample of the data gives no lower bound, and none is offered.

The conditional bound is a discrete form of the local Polyak-Lojasiewicz inequality of Barboni, Peyre and Vialard
(arXiv:2403.12887), with the derivation above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Index
from wgflow.energy import Energy
from wgflow.model.blocks import Unfolding
from wgflow.model.depth import DEPTHS, Network
from wgflow.model.losses import LOSSES
from wgflow.model.particles import Particles
from wgflow.model.problem import Problem
from wgflow.theory.layer_jacobians import tapes

ROWS = 512  # of the largest kernel whose eigenvalues are computed
_NUMBERS = 2**22  # numbers of one temporary array, 32 MiB


class TangentKernel(NamedTuple):
    """Tangent kernel of the whole network at a measure.

    Attributes
    ----------
    matrix : ndarray (M K, M K)
        Theta, rows by sample, then output.
    residual : ndarray (M K,)
        r, the gradient of the loss of each sample in its outputs.
    samples : int
        M.
    rank : int
        N P, which the rank cannot exceed.
    least : float
        lambda_min(Theta) less its rounding error, at least 0.
    """

    matrix: Array
    residual: Array
    samples: int
    rank: int
    least: float

    @property
    def rate(self) -> float:
        """Lower bound (2/M) lambda_min(Theta) of dissipation/E."""
        return 2.0 * self.least / self.samples

    def frozen(self, s: ArrayLike) -> Array:
        """E after flow time s if the kernel stayed as it is: mean_m |exp(-Theta s/M) r|**2 / 2, the linearised flow."""
        values, vectors = np.linalg.eigh(self.matrix)
        modes = (vectors.T @ self.residual) ** 2
        decay = np.exp(-2.0 * np.multiply.outer(np.asarray(s, float), np.maximum(values, 0.0)) / self.samples)
        return np.asarray(decay @ modes) / (2.0 * self.samples)


class ConditionalKernels(NamedTuple):
    """Smallest eigenvalues at each depth, L layers; 0 where the kernel is singular, NaN where it was not computed.

    Attributes
    ----------
    samples : int
        M.
    outputs : ndarray (L,)
        lambda_min(Theta_k), of size M K.
    states : ndarray (L,)
        lambda_min(K_k), of size M D.
    transport : ndarray (L,)
        min_m s_min(A_(k+1)(m))**2; 0 if K > D.
    rank : ndarray (L,)
        N_k P, which the rank of either kernel cannot exceed.
    """

    samples: int
    outputs: Array
    states: Array
    transport: Array
    rank: Index

    @property
    def by_depth(self) -> float:
        """Lower bound (2/M) sum_k lambda_min(Theta_k) of dissipation/E."""
        return 2.0 * float(self.outputs.sum()) / self.samples

    @property
    def conditional(self) -> float:
        """Lower bound (2/M) sum_k lambda_min(K_k) min_m s_min(A_(k+1))**2 of dissipation/E."""
        return 2.0 * float(self.states @ self.transport) / self.samples


def not_proved(energy: Energy) -> str:
    """Why the inequalities are not proved for an energy; empty if they are."""
    if energy.regulariser is not None:
        return "E has a regulariser"
    if type(energy.problem.loss) is not type(LOSSES["squared"]):
        return f"the loss is {energy.problem.loss.name}, not squared"
    if type(energy.depth) not in DEPTHS.values():
        return "the depth scheme is not a built-in one"
    samples, _, outputs, _ = energy.problem.shape
    if samples * outputs > ROWS:
        return f"the kernel has M K = {samples * outputs} > {ROWS} rows, and a part of it gives no lower bound"
    return ""


def one_layer_each(energy: Energy, rho: Particles) -> bool:
    """Whether every particle lies in a single layer, as the bounds by depth require."""
    particle = energy.network(rho).particle
    return len(particle) == len(rho) and bool((np.bincount(particle, minlength=len(rho)) == 1).all())


def tangent_kernel(energy: Energy, rho: Particles, mobility: Mapping[str, float] | None = None) -> TangentKernel:
    """Tangent kernel Theta of the network, for any depth scheme, in float64.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme.
    mobility : mapping of str to float, optional
        As for :class:`wgflow.Flow`; that of tau does not enter.

    Raises
    ------
    InputError
        If the inequality is not proved for the energy, see :func:`not_proved`, or rho does not fit it.
    """
    case = _Case.of(energy, rho, mobility)
    entries = np.argsort(case.net.particle, kind="stable")
    matrix = case.gram(entries, case.transport)
    residual = case.residual.ravel()
    samples, _, _, parameters = case.problem.shape
    return TangentKernel(matrix, residual, samples, len(rho) * parameters, _least(matrix))


def conditional_kernels(
    energy: Energy, rho: Particles, mobility: Mapping[str, float] | None = None
) -> ConditionalKernels:
    """Smallest eigenvalues of the kernels of each layer; arguments and errors as for :func:`tangent_kernel`.

    Raises
    ------
    InputError
        Also if a particle lies in several layers, as under Deposit, where the bounds by depth are not proved.

    Notes
    -----
    A kernel whose rank is too small is singular and not computed, one on the states with more than 512 rows is NaN.
    """
    case = _Case.of(energy, rho, mobility)
    if not one_layer_each(energy, rho):
        raise InputError(
            f"depth: expected a scheme with each particle in one layer, for which bounds by depth are proved, got "
            f"{energy.depth.name}; use tangent_kernel"
        )
    samples, width, outputs, parameters = case.problem.shape
    rank = np.diff(case.net.first) * parameters
    by_output, by_state = np.zeros(case.net.layers), np.zeros(case.net.layers)
    unit = np.broadcast_to(np.eye(width)[:, None], (samples, width, case.net.layers, width))
    for k in range(case.net.layers):
        entries = np.arange(case.net.first[k], case.net.first[k + 1])
        if rank[k] >= samples * outputs:
            by_output[k] = _least(case.gram(entries, case.transport))
        if rank[k] >= samples * width:
            by_state[k] = _least(case.gram(entries, unit)) if samples * width <= ROWS else np.nan
    smallest = np.zeros(case.net.layers)
    if outputs <= width:
        smallest = np.linalg.svd(case.transport.swapaxes(1, 2), compute_uv=False)[..., -1].min(axis=0) ** 2
    return ConditionalKernels(samples, by_output, by_state, smallest, rank)


class _Case(NamedTuple):
    """Forward states, adjoint transport matrices and entries of the network of a measure."""

    problem: Problem
    net: Network
    theta: Array
    layer: Index  # of each entry
    factor: Array  # c_e, (E,)
    root: Array  # sqrt(mass), (N,)
    mobility: Array  # square roots by column, (P,)
    states: Array  # X_k, (M, L, D)
    transport: Array  # columns of A_(k+1), (M, K, L, D)
    residual: Array  # (M, K)

    @classmethod
    def of(cls, energy: Energy, rho: Particles, mobility: Mapping[str, float] | None) -> _Case:
        if reason := not_proved(energy):
            raise InputError(f"energy: expected one for which the bound of dissipation/E is proved, but {reason}")
        problem, net = energy.problem, energy.network(rho)
        samples, width, outputs, _ = problem.shape
        start, states = problem.start(), np.empty((samples, net.layers, width))
        transport, residual = np.empty((samples, outputs, net.layers, width)), np.empty((samples, outputs))
        low = 0
        for tape, p, _ in tapes(problem, net, rho.theta, extra=(outputs + 1) * net.layers * width):
            rows = slice(low, low + len(p))
            x, low = start[rows], low + len(p)
            for k, layer in enumerate(tape):
                states[rows, k] = x
                x = x + layer.value
            residual[rows] = problem.loss.gradient(problem.outputs(x), problem.y[rows])
            one = np.repeat(np.eye(outputs)[:, None], len(p), axis=1)  # (K, m, K)
            v = np.stack([problem.measuring.pull_back(x, problem.readout, each) for each in one])  # (K, m, D)
            for k in reversed(range(net.layers)):
                transport[rows, :, k] = v.swapaxes(0, 1)
                v = v + tape[k].vjp(v)
        return cls(
            problem, net, rho.theta, np.repeat(np.arange(net.layers), np.diff(net.first)),
            energy.depth.transpose(rho, net).by_theta, np.sqrt(rho.mass),
            np.sqrt(problem.by_column(mobility or {})), states, transport, residual,
        )  # fmt: skip

    def gram(self, entries: Index, covectors: Array) -> Array:
        """sum_i mass_i G_i G_i' over the particles of some entries, which come particle by particle.

        Covectors (M, O, L, D) at the states behind each layer; the kernel has M O rows.
        """
        size = len(covectors) * covectors.shape[1]
        total = np.zeros((size, size))
        for part in self._parts(entries, size):
            layer, particle = self.layer[part], self.net.particle[part]
            p = covectors[:, :, layer]
            slopes = _theta_gradients(self.problem, self.states[:, layer], self.theta[particle], p)
            slopes *= self.factor[part, None] * self.mobility
            first = np.flatnonzero(np.append(True, particle[1:] != particle[:-1]))
            if len(first) < len(part):
                slopes = np.add.reduceat(slopes, first, axis=2)
            slopes *= self.root[particle[first], None]
            rows = slopes.reshape(size, -1)
            total += rows @ rows.T
        return total

    def _parts(self, entries: Index, size: int) -> Iterator[Index]:
        """Entries in parts of whole particles, small enough for one temporary array."""
        width = self.problem.shape[1]
        block = self.problem.block
        each = block.units(width) * (2 * width + 1) if isinstance(block, Unfolding) else self.theta.shape[1]
        share = max(1, _NUMBERS // (size * each))
        particle, low = self.net.particle[entries], 0
        ends = np.append(np.flatnonzero(particle[1:] != particle[:-1]) + 1, len(entries))
        while low < len(entries):
            high = int(ends[max(np.searchsorted(ends, low + share, "right") - 1, np.searchsorted(ends, low, "right"))])
            yield entries[low:high]
            low = high


def _theta_gradients(problem: Problem, x: Array, theta: Array, p: Array) -> Array:
    """Gradient in theta_e of p . f(x, theta_e), (M, O, E, P), for x (M, E, D), theta (E, P) and p (M, O, E, D)."""
    block, activation, width = problem.block, problem.activation, x.shape[2]
    shape = *p.shape[:3], theta.shape[1]
    if isinstance(block, Unfolding):
        units = block.unfold(theta, width).reshape(len(theta), -1, 2 * width + 1)
        a, w, b = units[..., :width], units[..., width : 2 * width], units[..., -1]
        z = np.einsum("med,ehd->meh", x, w) + b
        back = np.einsum("moed,ehd->moeh", p, a) * activation.slope(z)[:, None]
        rows = np.empty((*back.shape, 2 * width + 1))
        rows[..., :width] = activation.value(z)[:, None, :, :, None] * p[:, :, :, None]
        rows[..., width : 2 * width] = back[..., None] * x[:, None, :, None]
        rows[..., -1] = back
        return np.array(block.fold(rows.reshape(-1, 2 * width + 1), width)).reshape(shape)
    out = np.empty(shape)
    for m, o, e in np.ndindex(*shape[:3]):
        out[m, o, e] = block.backward(x[m, e, None], theta[e], p[m, o, e, None], activation)[1]
    return out


def _least(matrix: Array) -> float:
    """Smallest eigenvalue of a Gram matrix less its rounding error, at least 0; NaN if the matrix is not finite."""
    if not np.isfinite(matrix).all():
        return float("nan")
    values = np.linalg.eigvalsh(matrix)
    return max(0.0, float(values[0] - len(values) * np.finfo(float).eps * values[-1]))
