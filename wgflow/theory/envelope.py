"""Envelope of the adjoint: |p| cannot vanish before the loss does, nor grow faster than the blocks allow.

The discrete statement here, with its constants, is derived: p_k = (I + F_k'(X_k))' p_(k+1) gives |p_k| between
(1 -+ |F_k'|) |p_(k+1)| for every sample. For K = 1 and the squared loss E|p(1)|**2 = 2 |W1|**2 E, which makes its lower
half E|p_k|**2 >= Q E with Q = 2 |W1|**2 prod (1 - |F_j'|)_+**2: the form of Ding, Chen, Li and Wright
(arXiv:2110.02926), Lemma H.1, whose Q depends on moments of rho alone. The slides of Lu, Ma, Lu, Lu and Ying
(arXiv:2003.05508) print another one, |p| >= c E with c = exp(-(C1 + C2 t)) and constants not given. It follows from the
first for c = (Q/E_0)**(1/2), but only where E <= E_0, since (Q E)**(1/2) < c E for large E.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array
from wgflow.base.verdict import Claim, Verdict
from wgflow.energy import Energy
from wgflow.model.depth import Gaps
from wgflow.model.losses import LOSSES
from wgflow.model.particles import Particles
from wgflow.theory.layer_jacobians import tapes

_ROUNDING = 1e-9  # relative tolerance of bounds that hold exactly

ABOVE = Claim(
    "adjoint_above_lower_bound", "E|p(t)|²/E|p(1)|²{at} where nearest to its lower bound", ">=", "Π(1 − cJ)²",
    holds="the adjoint stays above its lower bound",
    fails="the adjoint falls below its lower bound",
    unknown="the adjoint is 0 or not finite, so that its lower bound says nothing",
    rounding=_ROUNDING,
)  # fmt: skip
BELOW = Claim(
    "adjoint_below_upper_bound", "E|p(t)|²/E|p(1)|²{at} where nearest to its upper bound", "<=", "Π(1 + cJ)²",
    holds="the adjoint stays below its upper bound",
    fails="the adjoint exceeds its upper bound",
    unknown="the adjoint is 0 or not finite, so that its upper bound says nothing",
    rounding=_ROUNDING,
)  # fmt: skip
BY_LOSS = Claim(
    "adjoint_above_loss", "E|p(t)|²{at} where nearest to its bound by the loss", ">=", "Q E",
    holds="the loss bounds the adjoint from below, E|p(t)|² ≥ Q E, Q from {least:.2g} to {most:.2g}",
    fails="the adjoint is smaller than the loss allows, E|p(t)|² < Q E",
    unknown="E|p(1)|² = 2|W1|² E holds for one output and the squared loss alone, so that the loss gives no bound",
    rounding=_ROUNDING,
)  # fmt: skip


class Envelope(NamedTuple):
    """Size of the adjoint along depth with its bounds; all arrays except ``norm`` belong to the L + 1 states X_k.

    Attributes
    ----------
    t : ndarray (L + 1,)
        Depth of the states: the sorted tau under Gaps with 0 in front, k/L otherwise.
    ratio : ndarray (L + 1,)
        E|p_k|**2 / E|p(1)|**2, the expectation over samples; the last is 1. NaN if p(1) = 0.
    lower, upper : ndarray (L + 1,)
        prod_(j >= k) (1 - c_j J_j)_+**2 and prod_(j >= k) (1 + c_j J_j)**2, which hold exactly.
    smooth_lower, smooth_upper : ndarray (L + 1,)
        exp(-+2 sum_(j >= k) c_j J_j), the bounds of the continuum. The upper one, being larger, holds here too; the
        lower one is above ``lower``, and the discrete network may fall below it.
    norm : ndarray (L,)
        c_j J_j, the largest spectral norm of F_j'(X_j) over samples: step times Jacobian.
    end : float
        E|p(1)|**2.
    end_by_loss : float or None
        2 |W1|**2 E, which ``end`` equals for K = 1 and the squared loss, E without a regulariser; otherwise None.
    loss : float
        E without a regulariser.
    """

    t: Array
    ratio: Array
    lower: Array
    upper: Array
    smooth_lower: Array
    smooth_upper: Array
    norm: Array
    end: float
    end_by_loss: float | None
    loss: float

    def verdicts(self, when: str = "") -> list[Verdict]:
        """Whether the adjoint lies above its lower bound, below its upper bound, and above Q E, at all depths t < 1.

        The first two hold for every network, so that they check the computation; the third is a claim about E. At t = 1
        all three are equalities, of which one would always be the nearest to its bound.

        Parameters
        ----------
        when : str, optional
            When the network is looked at, in words: "start".
        """
        at = f" ({when})" if when else ""
        loss = np.nan if self.end_by_loss is None else self.end_by_loss
        factor = loss / self.loss if self.loss > 0 else np.nan
        least, most = factor * self.lower.min(), factor * self.lower.max()
        ratio, lower, upper = self.ratio[:-1], self.lower[:-1], self.upper[:-1]
        return [
            ABOVE.of_all(ratio, lower, at=at),
            BELOW.of_all(ratio, upper, at=at),
            BY_LOSS.of_all(ratio * self.end, lower * loss, at=at, least=least, most=most),
        ]


def adjoint_envelope(energy: Energy, rho: Particles) -> Envelope:
    """Measure E|p_k|**2 along depth and bound it by the blocks' Jacobians.

    prod_(j >= k) (1 - c_j J_j)_+**2 <= E|p_k|**2 / E|p(1)|**2 <= prod_(j >= k) (1 + c_j J_j)**2, derived (see the
    module) from the adjoint of the discrete network, for any depth scheme. For K = 1 and the squared loss this is
    E|p_k|**2 >= Q E with Q = 2 |W1|**2 lower_k; the module says how the bounds in the papers compare.

    Parameters
    ----------
    energy, rho : Energy, Particles
        The measure, and its problem and depth scheme; a regulariser does not enter the adjoint.

    Returns
    -------
    Envelope
        Computed in float64, whatever the energy's precision.

    Raises
    ------
    InputError
        If rho does not fit the problem or the scheme.
    """
    problem, net = energy.problem, energy.network(rho)
    square, norm, loss = np.zeros(net.layers + 1), np.zeros(net.layers), 0.0
    for tape, p, losses in tapes(problem, net, rho.theta):
        loss += losses
        square[-1] += np.vdot(p, p)
        for k in reversed(range(net.layers)):
            p = p + tape[k].vjp(p)
            square[k] += np.vdot(p, p)
            norm[k] = tape[k].norm(norm[k])
    square, loss = square / len(problem.x), loss / len(problem.x)
    single = problem.linear and len(problem.readout) == 1 and type(problem.loss) is type(LOSSES["squared"])
    uneven = isinstance(energy.depth, Gaps)
    total = np.append(np.cumsum(norm[::-1])[::-1], 0.0)
    with np.errstate(over="ignore"):  # an infinite upper bound is one
        return Envelope(
            t=np.append(0.0, np.cumsum(net.weight)) if uneven else np.linspace(0.0, 1.0, net.layers + 1),
            ratio=square / square[-1] if square[-1] > 0 else np.full(len(square), np.nan),
            lower=_from_end(np.maximum(1.0 - norm, 0.0)),
            upper=_from_end(1.0 + norm),
            smooth_lower=np.exp(-2.0 * total),
            smooth_upper=np.exp(2.0 * total),
            norm=norm,
            end=float(square[-1]),
            end_by_loss=2.0 * float(np.vdot(problem.readout, problem.readout)) * loss if single else None,
            loss=float(loss),
        )


def _from_end(factor: Array) -> Array:
    """Squared products over j >= k, (L + 1,)."""
    return np.append(np.cumprod(factor[::-1])[::-1], 1.0) ** 2
