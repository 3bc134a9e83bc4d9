"""Scaled gradient descent, and the neural feature flow as a particle system of weights and features.

The flow moves weights v and features alpha, beta as states of their own along -G (Fang, Lee, Yang and Zhang, COLT 2021,
Definition 2, with p the law of m units). In continuous s the features stay those of the weights. A step of Euler's
method on v whose features are computed anew is scaled gradient descent; steps on (v, alpha, beta) leave a constraint
defect alpha_l - (1/m) v_l^T h1(beta_(l-1)), O(h^p) for a method of order p, reported with every snapshot. Derived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from wgflow.base.errors import DivergenceError
from wgflow.base.validate import real, whole
from wgflow.flow.integrators import EULER, Tableau, integrator
from wgflow.systems.neural_feature_flow.low_rank import AnyArray, LowRank, Matrix, add, ahead, total
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Drift, Features, Weights


class State(NamedTuple):
    """State of the neural feature flow: weights v_1..v_(L+1) and features alpha_2..alpha_L, beta_1..beta_L."""

    weights: Weights
    features: Features


class Defect(NamedTuple):
    """How far features are from those their weights give, layer by layer, max over units and training points.

    Attributes
    ----------
    first : float
        |beta_1 - (1/d) v_1^T X^T|; rounding, since that constraint is linear.
    alpha : tuple of L - 1 floats
        |alpha_l - (1/m) v_l^T h1(beta_(l-1))|, at the state's own beta.
    beta : tuple of L - 1 floats
        |beta_l - beta_(l-1) - h2(alpha_l)|; |beta_l - alpha_l| in a DNN.
    """

    first: float
    alpha: tuple[float, ...]
    beta: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The largest of all."""
        return max(self.first, *self.alpha, *self.beta)


class Snapshot(NamedTuple):
    """A state along a run.

    Attributes
    ----------
    step, s : int, float
        Steps taken, >= 0, and flow time, step h (the paper's t = k eta).
    state : State
        The state, which the caller may keep.
    output, loss : ndarray (N,), float
        The network's outputs and mean loss there.
    defect : float
        Largest constraint defect; 0 up to rounding in gradient descent.
    """

    step: int
    s: float
    state: State
    output: AnyArray
    loss: float
    defect: float


def start(network: Network, weights: Weights) -> State:
    """Weights with the features they give, a state without defect."""
    return State(weights, network.features(weights))


def defect(network: Network, state: State) -> Defect:
    """Constraint defects of a state, see :class:`Defect`."""
    weights, (alpha, beta) = state
    m = network.check(weights, state.features)
    given = [v.T @ network.h1.value(below) / m for v, below in zip(weights.middle, beta, strict=False)]
    lifted = [network.h2.value(a) + (below if network.skip else 0) for a, below in zip(alpha, beta, strict=False)]
    return Defect(
        _sup(beta[0] - weights.inner.T @ network.x.T / network.inputs),
        tuple(_sup(a - g) for a, g in zip(alpha, given, strict=True)),
        tuple(_sup(b - up) for b, up in zip(beta[1:], lifted, strict=True)),
    )


def flow_stages(
    network: Network, state: State, h: float, table: Tableau = EULER, first: Drift | None = None
) -> list[Drift]:
    """Drifts at the stages of one step of :func:`flow_step`; ``first`` is the one at the state, if it is known."""
    stages = [network.drift(*state) if first is None else first]
    for row in table.a:
        moves = [-h * a for a in row]
        weights = _weights_after(state.weights, stages, moves, ahead)
        stages.append(network.drift(weights, _features_after(network, state.features, stages, moves)))
    return stages


def flow_step(
    network: Network,
    state: State,
    h: float,
    table: Tableau = EULER,
    own: bool = False,
    stages: list[Drift] | None = None,
) -> State:
    """One explicit step of length h of the neural feature flow, weights and features as independent states.

    Parameters
    ----------
    network : Network
        Data, activations, loss.
    state : State
        Where the step starts.
    h : float
        Step length in s.
    table : Tableau, optional
        The Runge-Kutta method.
    own : bool, optional
        Whether matrices of ``state.weights.middle`` may be overwritten, which saves a copy of each.
    stages : list of Drift, optional
        What :func:`flow_stages` makes, if it is known.

    Returns
    -------
    State
        At s + h. Middle weights kept as a history stay one while that is the cheaper form.
    """
    stages = flow_stages(network, state, h, table) if stages is None else stages
    moves = [-h * b for b in table.b]
    return State(
        _weights_after(state.weights, stages, moves, partial(add, own=own)),
        _features_after(network, state.features, stages, moves),
    )


def descent_step(
    network: Network,
    weights: Weights,
    h: float,
    table: Tableau = EULER,
    own: bool = False,
    first: Drift | None = None,
) -> Weights:
    """One explicit step of length h of dv/ds = -Gv with features computed from the weights.

    Under Euler's method this is scaled gradient descent with learning rate h: v_l - h m_(l-1) m_l dL/dv_l, with m_0 = d
    and m_(L+1) = 1 (Fang, Lee, Yang and Zhang, COLT 2021, Algorithm 1; Algorithm 3 for a DNN). Arguments as
    :func:`flow_step`; ``first`` is the gradient at these weights, if it is known.
    """
    stages = [network.gradient(weights) if first is None else first]
    for row in table.a:
        stages.append(network.gradient(_weights_after(weights, stages, [-h * a for a in row], ahead)))
    return _weights_after(weights, stages, [-h * b for b in table.b], partial(add, own=own))


def run(
    network: Network,
    state: State | Weights,
    steps: int,
    h: float,
    method: str | Tableau = "euler",
    every: int = 1,
    flow: bool = True,
) -> Iterator[Snapshot]:
    """Snapshots of the neural feature flow, or of gradient descent, at steps 0, every, 2 every, ... and the last.

    Parameters
    ----------
    network : Network
        Data, activations, loss.
    state : State or Weights
        The start; weights alone start with the features they give.
    steps : int
        Steps to take, >= 0.
    h : float
        Step length, > 0; the learning rate of gradient descent.
    method : str or Tableau, optional
        Runge-Kutta method of :mod:`wgflow.flow.integrators`.
    every : int, optional
        Steps between snapshots.
    flow : bool, optional
        The neural feature flow, with weights and features as independent states; otherwise the weights alone move,
        which under ``"euler"`` is scaled gradient descent.

    Raises
    ------
    InputError
        If an argument is out of its range or shapes do not fit.
    DivergenceError
        If the loss of a snapshot is not finite; the last good snapshot is its ``frame``.
    """
    table, h = integrator(method), real("h", h, above=0.0)
    steps, every = whole("steps", steps, 0), whole("every", every)
    now = state if isinstance(state, State) else start(network, state)
    last = None
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            last = _snapshot(network, now, step, h, last, flow)
            yield last
        if step < steps:
            own = step % every != 0  # no matrix may be overwritten that a caller holds
            if flow:
                now = flow_step(network, now, h, table, own)
            else:
                now = State(descent_step(network, now.weights, h, table, own), now.features)


def _snapshot(network: Network, now: State, step: int, h: float, last: Snapshot | None, flow: bool) -> Snapshot:
    state = now if flow else start(network, now.weights)
    output = network.output(*state)
    loss = network.loss_of(output)
    if not np.isfinite(loss):
        raise DivergenceError(f"loss: expected a finite number, got {loss} at step {step}; lower h", last)
    return Snapshot(step, step * h, state, output, loss, defect(network, state).largest)


def _features_after(network: Network, features: Features, stages: Sequence[Drift], moves: Sequence[float]) -> Features:
    drifts = [stage.features for stage in stages]
    beta = _layers_after(features.beta, [drift.beta for drift in drifts], moves)
    if not network.skip:  # the same arrays, moved once
        return Features(beta[1:], beta)
    return Features(_layers_after(features.alpha, [drift.alpha for drift in drifts], moves), beta)


def _weights_after(
    weights: Weights, stages: Sequence[Drift], moves: Sequence[float], update: Callable[[Matrix, LowRank], Matrix]
) -> Weights:
    """Weights plus the combination of stages, the middle ones changed by ``update``: ``ahead`` or ``add``."""
    drifts = [stage.weights for stage in stages]
    inner, outer = _layers_after(
        (weights.inner, weights.outer), [(drift.inner, drift.outer) for drift in drifts], moves
    )
    middle = []
    for v, *gradients in zip(weights.middle, *(drift.middle for drift in drifts), strict=True):
        pairs = zip(cast("list[LowRank]", gradients), moves, strict=True)
        terms = [gradient.scaled(move) for gradient, move in pairs if move]
        middle.append(update(v, total(terms)) if terms else v)
    return Weights(inner, tuple(middle), outer)


def _layers_after(
    layers: Sequence[AnyArray], drifts: Sequence[Sequence[AnyArray]], moves: Sequence[float]
) -> tuple[AnyArray, ...]:
    """Arrays plus the sum of moves times drifts, one drift a stage."""
    after = list(layers)
    for drift, move in zip(drifts, moves, strict=True):
        if move:
            after = [array + move * change for array, change in zip(after, drift, strict=True)]
    return tuple(after)


def _sup(values: AnyArray) -> float:
    return float(np.abs(values).max())
