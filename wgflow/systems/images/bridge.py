"""Between a stage of torch and the package's particles, so that trajectories and analyses work on convolutional blocks.

theta_i is the list of block i's trainable weights, parameter after parameter as ``block.named_parameters()`` has them,
each row by row; tau_i its depth. Running statistics of normalisations are no parameters: they stay with their block.
Where P is large, theta can be reduced to q columns:

- ``project``: theta R / sqrt(q) with R a P x q matrix of independent signs, a function of the seed. Squared distances
  are right on average, with relative variance below 2 / q, and of m points all are within a factor 1 +- e with
  probability at least 1 - m**-b once q >= (4 + 2 b) log(m) / (e**2/2 - e**3/3): the lemma of Johnson and Lindenstrauss
  with signs, Achlioptas, Database-friendly random projections (J. Comput. Syst. Sci. 66, 2003), theorem 1.1.
- ``subsample``: q of the weights as they are, the same for all blocks, a function of the seed. Shows how single
  weights move; distances between blocks are distances in these weights alone.

Weights cannot be recovered from a reduced theta.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from wgflow.base import rng
from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.types import Array, Index
from wgflow.base.validate import whole
from wgflow.model.particles import Particles, project
from wgflow.systems.images.stage import MeanFieldStage, PlainStage
from wgflow.theory.stationarity import Residual

METHODS = ("project", "subsample")
_ROWS = 2**13  # weights whose signs are drawn together; another value would change every projection
_BITS = 52  # random bits of one number of wgflow.base.rng


def to_particles(stage: PlainStage, columns: int | None = None, method: str = "project", seed: int = 0) -> Particles:
    """Particles (theta_i, tau_i) of a stage, masses 1/n, in the order of its list.

    Parameters
    ----------
    stage : PlainStage
        n blocks of P weights, vanilla or mean-field. Depths of several axes are each in the [0, 1] of their own.
    columns : int, optional
        q >= 1 columns of theta; by default, or from P on, all P weights, exactly.
    method : {"project", "subsample"}, optional
        How to reduce theta.
    seed : int, optional
        0 <= seed < 2**64; the same seed reduces all blocks at all times alike.

    Raises
    ------
    InputError
        If a number is out of range, the method unknown, or a weight or depth not finite.
    """
    check_name("reduction of theta", method, METHODS)
    parameters = _parameters(stage)
    if not parameters:
        raise InputError("stage: expected blocks with weights, got blocks without any")
    theta = np.stack([_weights(branch) for branch in stage.branches])
    if columns is not None and whole("columns", columns) < parameters:
        some = method == "subsample"
        theta = theta[:, subsample(parameters, columns, seed)] if some else projected(theta, columns, seed)
    return Particles(theta, stage.tau.detach().cpu().numpy(), free=getattr(stage, "ends", "clip") == "free")


@torch.no_grad()
def from_particles(stage: MeanFieldStage, rho: Particles) -> None:
    """Write theta into a stage's weights and tau into its depths: undoes :func:`to_particles`.

    Weights come back to the bit where theta came from weights of the same precision; depths to one unit in the last
    place, and exactly where the steps are whole numbers.

    Parameters
    ----------
    stage : MeanFieldStage
        Whose n blocks are written over, block i by particle i.
    rho : Particles
        n particles of equal mass with all P weights.

    Raises
    ------
    InputError
        If numbers of particles or weights do not fit, masses differ, or a depth leaves [0, 1] and the stage's ends are
        not free.
    """
    parameters = _parameters(stage)
    if rho.theta.shape != (len(stage), parameters):
        raise InputError(
            f"rho: expected theta of shape {(len(stage), parameters)}, all weights of each block, got "
            f"{rho.theta.shape}; theta reduced to columns does not lead back"
        )
    if rho.mass.max() - rho.mass.min() > 1e-9 * rho.mass.max():
        raise InputError(
            f"mass: expected equal weights, as a stage moves all its blocks alike, got {rho.mass.min():g} to "
            f"{rho.mass.max():g}; leave mass out"
        )
    stage.place(rho.tau)
    for branch, row in zip(stage.branches, rho.theta, strict=True):
        parts = torch.from_numpy(row.copy()).split([parameter.numel() for parameter in branch.parameters()])
        for parameter, part in zip(branch.parameters(), parts, strict=True):
            parameter.copy_(part.view_as(parameter))


def stationarity(stage: MeanFieldStage) -> Residual:
    """Stationarity of a stage after ``loss.backward()``, as defined in :mod:`wgflow.theory.stationarity`.

    In depth tau in [0, 1] a stage of n blocks is dX/dtau = n f(X, theta), so dE/dtheta^l = gap_l d_theta dE/drho and

        int |d_theta dE/drho|**2 drho = sum_l |dE/dtheta^l|**2 / gap_l,   gap_l = step_l / n,

    over the blocks with a positive gap; the others have no weight in the measure. The force is sum_i n (dE/du_i)**2,
    without components that point out of [0, 1] where the ends are clipped (derived; equal to that of ``wgflow.Energy``
    under Gaps).

    Raises
    ------
    InputError
        If there is no gradient yet.
    """
    slope = stage.u.grad
    if slope is None:
        raise InputError("stage: expected gradients, got none; call loss.backward() before")
    sizes, order = np.repeat(stage.sizes, stage.sizes).astype(float), stage.order().tolist()
    gaps = np.empty(len(stage))
    gaps[order] = stage.steps().detach().cpu().numpy() / sizes
    squares = np.array(
        [sum(float(p.grad.square().sum()) for p in b.parameters() if p.grad is not None) for b in stage.branches]
    )
    tau = stage.tau.detach().cpu().numpy()
    force = project(tau, -slope.cpu().numpy(), stage.ends)
    within = gaps > 0
    return Residual(float((squares[within] / gaps[within]).sum()), 0.0, float((sizes * force**2).sum()))


def _weights(branch: nn.Module) -> Array:
    return torch.cat([parameter.detach().cpu().double().flatten() for parameter in branch.parameters()]).numpy()


def _parameters(stage: PlainStage) -> int:
    return sum(parameter.numel() for parameter in stage.branches[0].parameters())


def subsample(parameters: int, columns: int, seed: int = 0) -> Index:
    """Indices of q weights drawn at random out of P, (q,), increasing."""
    chosen: Index = np.sort(rng.permutation(seed, "weights of a block", parameters)[:columns])
    return chosen


def projected(theta: Array, columns: int, seed: int = 0) -> Array:
    """Project the rows of theta, (n, P), to theta R / sqrt(q), (n, q), with R independent signs; see the module."""
    out: Array = np.zeros((len(theta), columns))
    for start in range(0, theta.shape[1], _ROWS):
        part = theta[:, start : start + _ROWS]
        out += part @ _signs(seed, start // _ROWS, part.shape[1], columns)
    return np.divide(out, np.sqrt(columns))


def _signs(seed: int, chunk: int, rows: int, columns: int) -> Array:
    """Rows chunk * _ROWS onwards of R, each entry one random bit."""
    words = -(-columns // _BITS)
    uniform = rng.uniform(seed, "projection of blocks", (rows, words), step=chunk)
    whole_numbers = (uniform * 2.0**_BITS).astype(np.uint64)  # (k + 1/2) / 2**52, k of 52 random bits
    bits = (whole_numbers[:, :, None] >> np.arange(_BITS, dtype=np.uint64)) & np.uint64(1)
    signs: Array = bits.reshape(rows, -1)[:, :columns] * 2.0 - 1.0
    return signs
