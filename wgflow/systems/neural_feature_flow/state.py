"""Data types of the neural feature flow: weights, features, drifts and backward quantities.

Shapes are in the paper's letters: N training points, d inputs, L hidden layers of m units.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from wgflow.systems.neural_feature_flow.low_rank import AnyArray, Matrix


class Weights(NamedTuple):
    """Weights of a network, or their drifts.

    Attributes
    ----------
    inner : ndarray (d, m)
        v1.
    middle : tuple of L - 1 matrices (m, m)
        v_2, ..., v_L, source unit first: arrays, or histories of low rank.
    outer : ndarray (m,)
        v_(L+1).
    """

    inner: AnyArray
    middle: tuple[Matrix, ...]
    outer: AnyArray


class Features(NamedTuple):
    """Features of a network's units, or their drifts.

    Attributes
    ----------
    alpha : tuple of L - 1 ndarrays (m, N)
        alpha_2, ..., alpha_L; in a DNN the same arrays as ``beta[1:]``.
    beta : tuple of L ndarrays (m, N)
        beta_1, ..., beta_L (the paper's theta_l in a DNN).
    """

    alpha: tuple[AnyArray, ...]
    beta: tuple[AnyArray, ...]


class Adjoint(NamedTuple):
    """Backward quantities: (1/(N m)) times them is the loss's gradient in the features.

    Attributes
    ----------
    output : ndarray (N,)
        D_(L+1) = phi'(output, y); without the factor 1/m.
    alpha : tuple of L - 1 ndarrays (m, N)
        Dalpha_l = Dbeta_l o h2'(alpha_l), l = 2..L.
    beta : tuple of L ndarrays (m, N)
        Dbeta_l, l = 1..L.
    """

    output: AnyArray
    alpha: tuple[AnyArray, ...]
    beta: tuple[AnyArray, ...]


class Drift(NamedTuple):
    """Drifts G at a state; the flow moves along -G.

    Attributes
    ----------
    weights : Weights
        The scaled gradients Gv_1 = d m dL/dv_1, Gv_l = m^2 dL/dv_l (as :class:`LowRank`), Gv_(L+1) = m dL/dv_(L+1).
    features : Features
        Galpha and Gbeta, the directional derivatives of the features along Gv; empty tuples from
        :meth:`wgflow.systems.neural_feature_flow.network.Network.gradient`, whose features follow the weights.
    output : ndarray (N,)
        The network's outputs.
    loss : float
        Mean loss.
    rate : float
        -dE/ds along -G of the loss at these outer weights and features; NaN from ``gradient``, which has no Gbeta.
    """

    weights: Weights
    features: Features
    output: AnyArray
    loss: Any
    rate: Any = math.nan
