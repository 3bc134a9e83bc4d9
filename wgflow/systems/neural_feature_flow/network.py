"""Deep networks whose units are particles: Res-Net and fully connected DNN, their features, drifts and predictions.

Letters here are the paper's: N training points, d inputs, L hidden layers of m units each. A feature is what a unit
computes at all training points, a row of N numbers. With weights v1 (d, m), v_l (m, m), l = 2..L, source unit first,
and v_(L+1) (m,),

    beta_1 = (1/d) v1^T X^T,   alpha_l = (1/m) v_l^T h1(beta_(l-1)),   output = (1/m) v_(L+1)^T h1(beta_L),
    Res-Net: beta_l = beta_(l-1) + h2(alpha_l),   DNN: beta_l = alpha_l,   loss = (1/N) sum_n phi(output_n, y_n).

Fang, Lee, Yang and Zhang (COLT 2021), equations (2) to (6) and Appendix E. One output, as in the paper.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from wgflow.base.copies import Copyable
from wgflow.base.errors import InputError, describe
from wgflow.base.registry import check_name, lookup
from wgflow.base.types import Spec
from wgflow.base.user_objects import is_builtin
from wgflow.base.validate import finite_array, refuse_masked, whole
from wgflow.model import losses
from wgflow.model.activations import ACTIVATIONS, Activation, activation
from wgflow.model.losses import Loss
from wgflow.systems.neural_feature_flow.elementwise import elementwise
from wgflow.systems.neural_feature_flow.low_rank import AnyArray, LowRank
from wgflow.systems.neural_feature_flow.state import Adjoint, Drift, Features, Weights

KINDS = {"resnet": True, "dnn": False}  # whether a layer is added to the one below it
KIND_NAMES = {"resnet": "Res-Net", "dnn": "DNN"}  # in print
BACKENDS = ("cpu", "reference")
_TRIED = 8  # training points that a user-defined loss is tried on


class _Tape(NamedTuple):
    """h1(beta_l) and h1'(beta_l), l = 1..L, and h2'(alpha_l), l = 2..L, (m, N) each, at given features."""

    h: tuple[AnyArray, ...]
    slope: tuple[AnyArray, ...]
    bend: tuple[AnyArray, ...]


class Network(Copyable):
    """Training points, activations and loss of a Res-Net or DNN with L hidden layers; the width comes with the weights.

    The paper's theorems assume h1, h2 and their first derivatives bounded, h2 in particular (sup |h2| bounds how far
    features move from layer to layer), and phi with a bounded Lipschitz derivative, as "huber" and "logistic" have
    but not "squared". This is not required here: every activation and every loss of one output runs; drifts are exact
    where h1 and h2 are differentiable.

    Parameters
    ----------
    x : array_like (N, d)
        Training inputs X.
    y : array_like (N,)
        Training targets.
    layers : int, optional
        L >= 2.
    kind : {"resnet", "dnn"}, optional
        Which network; a DNN has no h2.
    h1, h2 : str, spec or Activation, optional
        Activations.
    loss : str or Loss, optional
        phi, of one output.
    backend : {"cpu", "reference"}, optional
        ``cpu`` compiles the elementwise parts for built-in activations, others run in NumPy; ``reference`` is NumPy,
        and takes complex weights for complex-step derivatives.

    Attributes
    ----------
    points, inputs : int
        N and d.

    Raises
    ------
    InputError
        If shapes, numbers or names do not fit.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        layers: int = 4,
        kind: str = "resnet",
        h1: str | Spec | Activation = "tanh",
        h2: str | Spec | Activation = "tanh",
        loss: str | Loss = "squared",
        backend: str = "cpu",
    ) -> None:
        self.x, self.y = finite_array("x", x, 2), finite_array("y", y, 1)
        if len(self.x) != len(self.y):
            raise InputError(f"y: expected one target per row of x, {len(self.x)}, got {len(self.y)}; match them")
        self.points, self.inputs = self.x.shape
        self.layers = whole("layers", layers, 2)
        self.kind, self.skip = kind, lookup("kind", kind, KINDS)
        self.h1, self.h2 = activation(h1), activation(h2) if self.skip else ACTIVATIONS["linear"]
        self.loss = losses.loss(loss)
        if self.loss.name == "cross_entropy":
            raise InputError(
                f"loss: expected a loss of one output, got {describe(loss)}; code two classes as numbers under "
                "'squared' or -1 and 1 under 'logistic', or pass a loss object of your own"
            )
        losses.check_targets(self.loss, self.y[:, None])
        if not is_builtin(self.loss):
            rows = np.unique(np.linspace(0, self.points - 1, _TRIED).astype(int))
            losses.try_out(self.loss, np.zeros((len(rows), 1)), self.y[rows, None])
        check_name("backend", backend, BACKENDS)
        self.backend = backend
        self.parts = elementwise(self.h1, self.h2, self.skip, backend)

    def check(self, weights: Weights, features: Features | None = None) -> int:
        """Width m of these weights.

        Raises
        ------
        InputError
            If a shape does not fit the network, or the features do not fit the weights.
        """
        refuse_masked("weights", [weights.inner, *weights.middle, weights.outer])
        refuse_masked("features", [] if features is None else [*features.alpha, *features.beta])
        m = len(weights.outer)
        shapes = [np.shape(weights.inner), *(v.shape for v in weights.middle), np.shape(weights.outer)]
        wanted: list[tuple[int, ...]] = [(self.inputs, m), *(self.layers - 1) * [(m, m)], (m,)]
        if shapes != wanted:
            raise InputError(f"weights: expected the shapes {wanted} for {self.layers} hidden layers, got {shapes}")
        if features is not None:
            shapes = [array.shape for array in (*features.alpha, *features.beta)]
            counts = (len(features.alpha), len(features.beta))
            if counts != (self.layers - 1, self.layers) or set(shapes) != {(m, self.points)}:
                raise InputError(
                    f"features: expected {self.layers - 1} alpha and {self.layers} beta of shape {(m, self.points)}, "
                    f"got {counts[0]} and {counts[1]} of shapes {sorted(set(shapes))}"
                )
        return m

    def features(self, weights: Weights) -> Features:
        """Features alpha_2..alpha_L, beta_1..beta_L at the training points."""
        self.check(weights)
        return self._forward(weights, self.x)[0]

    def output(self, weights: Weights, features: Features) -> AnyArray:
        """Outputs (1/m) v_(L+1)^T h1(beta_L), (N,), at given features."""
        self.check(weights, features)
        return _read_out(weights, self.h1.value(features.beta[-1]))

    def predict(self, weights: Weights, x: ArrayLike) -> AnyArray:
        """Outputs at other inputs x (n, d), (n,); raises InputError if x does not have d columns."""
        self.check(weights)
        inputs = finite_array("x", x, 2)
        if inputs.shape[1] != self.inputs:
            raise InputError(f"x: expected {self.inputs} columns as in training, got {inputs.shape[1]}")
        return _read_out(weights, self._forward(weights, inputs)[1].h[-1])

    def loss_of(self, output: AnyArray) -> Any:
        """Mean loss (1/N) sum_n phi(output_n, y_n); complex for complex outputs (N,)."""
        mean = self.loss.value(output[:, None], self.y[:, None]).mean()
        return mean if np.iscomplexobj(mean) else float(mean)

    def value(self, weights: Weights) -> Any:
        """Mean loss of the network with these weights."""
        return self.loss_of(self.output(weights, self.features(weights)))

    def gradient(self, weights: Weights) -> Drift:
        """Scaled gradients of the loss, with features computed from the weights.

        One step v - eta G is the paper's scaled gradient descent (Algorithm 1, Algorithm 3 for a DNN).
        """
        self.check(weights)
        _, tape = self._forward(weights, self.x)
        output, back = self._backward(weights, tape)
        return Drift(self._weight_drifts(tape, back), Features((), ()), output, self.loss_of(output))

    def drift(self, weights: Weights, features: Features) -> Drift:
        """Velocity (drift) of weights and features as states of their own.

        Gv as in :meth:`gradient` but at the given features, Gbeta_1 = (1/d) X Gv_1 and

            Galpha_l = (1/m) v_l^T [h1'(beta_(l-1)) o Gbeta_(l-1)] + (1/m) Gv_l^T h1(beta_(l-1)),
            Gbeta_l = Gbeta_(l-1) + Galpha_l o h2'(alpha_l)        (DNN: Gbeta_l = Galpha_l).

        Fang, Lee, Yang and Zhang (COLT 2021), Definition 2 with p the empirical law of the m units; Definition 32 for
        the DNN. The transpose missing in their (12c) is in (101d).
        """
        m = self.check(weights, features)
        tape = self._tape(features)
        output, back = self._backward(weights, tape)
        moving = self._weight_drifts(tape, back)
        features, moved = self._feature_drifts(weights, tape, back, moving.inner)
        rate = back.output @ (moving.outer @ tape.h[-1] + weights.outer @ moved) / (m * self.points)
        return Drift(moving, features, output, self.loss_of(output), rate)

    def adjoint(self, weights: Weights, features: Features) -> Adjoint:
        """Backward quantities D at given weights and features, see :class:`Adjoint`."""
        self.check(weights, features)
        return self._backward(weights, self._tape(features))[1]

    def _tape(self, features: Features) -> _Tape:
        hs, slopes = zip(*map(self.parts.activate, features.beta), strict=True)
        return _Tape(hs, slopes, tuple(map(self.parts.bend, features.alpha)))

    def _forward(self, weights: Weights, x: AnyArray) -> tuple[Features, _Tape]:
        m = len(weights.outer)
        first = weights.inner.T @ x.T / self.inputs
        layers = [(first, first, *self.parts.activate(first), first)]  # there is no alpha_1, and no bend
        for v in weights.middle:
            _, below, h, *_ = layers[-1]
            layers.append(self.parts.layer(v.T @ h, 1 / m, below))
        alphas, betas, hs, slopes, bends = zip(*layers, strict=True)
        return Features(alphas[1:], betas), _Tape(hs, slopes, bends[1:])

    def _backward(self, weights: Weights, tape: _Tape) -> tuple[AnyArray, Adjoint]:
        """Outputs and backward quantities."""
        m, output = len(weights.outer), _read_out(weights, tape.h[-1])
        d_output = self.loss.gradient(output[:, None], self.y[:, None])[:, 0]
        d_beta, d_alpha = self.parts.seed(weights.outer, d_output, tape.slope[-1], tape.bend[-1])
        betas, alphas = [d_beta], [d_alpha]
        for k in range(self.layers - 2, -1, -1):
            product = weights.middle[k] @ d_alpha
            bend = tape.bend[k - 1] if k else tape.slope[0]  # there is no alpha_1: what comes of this is left out
            d_beta, d_alpha = self.parts.pull(product, 1 / m, d_beta, tape.slope[k], bend)
            betas.append(d_beta)
            alphas.append(d_alpha)
        return output, Adjoint(d_output, tuple(alphas[-2::-1]), tuple(betas[::-1]))

    def _weight_drifts(self, tape: _Tape, back: Adjoint) -> Weights:
        n = self.points
        inner = self.x.T @ back.beta[0].T / n
        middle = tuple(LowRank(h / n, d_alpha) for h, d_alpha in zip(tape.h, back.alpha, strict=False))
        return Weights(inner, middle, tape.h[-1] @ back.output / n)

    def _feature_drifts(
        self, weights: Weights, tape: _Tape, back: Adjoint, inner: AnyArray
    ) -> tuple[Features, AnyArray]:
        """Galpha and Gbeta, and h1'(beta_L) o Gbeta_L."""
        m, n = len(weights.outer), self.points
        g_beta = inner.T @ self.x.T / self.inputs
        alphas, betas, moved = [], [g_beta], tape.slope[0] * g_beta
        for k, v in enumerate(weights.middle):
            through = v.T @ moved
            h, d_alpha = tape.h[k], back.alpha[k]
            # the product of three matrices in the cheaper order
            own = d_alpha @ (h.T @ h) if n <= m else (d_alpha @ h.T) @ h
            arrays = (g_beta, tape.bend[k], tape.slope[k + 1])
            g_alpha, g_beta, moved = self.parts.push(through, 1 / m, own, 1 / (m * n), *arrays)
            alphas.append(g_alpha)
            betas.append(g_beta)
        return Features(tuple(alphas), tuple(betas)), moved


def _read_out(weights: Weights, h: AnyArray) -> AnyArray:
    """Outputs (1/m) v_(L+1)^T h from h = h1(beta_L)."""
    out: AnyArray = weights.outer @ h / len(weights.outer)
    return out
