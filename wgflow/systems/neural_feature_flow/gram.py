"""Gram matrices of the features, the distance to zero loss, and the strong universal approximation of Assumption 2.

Khat_l = (1/m) sum_i h1(beta_(l,i)) h1(beta_(l,i))^T decides whether features can be met by weights (its smallest
eigenvalue bounds the drift of the loss from below), and stays positive under the assumptions of Theorem 8 of Fang, Lee,
Yang and Zhang (COLT 2021): a Res-Net flow that converges reaches the infimum of the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.types import Array
from wgflow.base.validate import real, whole
from wgflow.model.losses import Loss, Squared
from wgflow.systems.neural_feature_flow.low_rank import AnyArray
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.systems.neural_feature_flow.state import Features

_SETTLED = 1e-4  # relative gain below which an adversary stops
_FURTHEST = 2.0**40  # outputs beyond which a loss that still falls has no minimum


class Excess(NamedTuple):
    """Loss compared with the infimum over all networks.

    Attributes
    ----------
    loss : float
        (1/N) sum_n phi(output_n, y_n).
    infimum : float
        (1/N) sum_n min_y' phi(y', y_n), 0 for the square loss; the paper's Theorem 8 prints the sum without 1/N.
    gap : float
        Their difference, 0 at the limit that Theorem 8 promises.
    slope : float
        sqrt((1/N) sum_n phi'(output_n, y_n)^2), which the theorem's proof takes to 0.
    """

    loss: float
    infimum: float
    gap: float
    slope: float


class Universality(NamedTuple):
    """Smallest eigenvalue over the f2 tried, an upper bound of Assumption 2's.

    Attributes
    ----------
    smallest : float
        Smallest lambda_min found. Near 0, the assumption fails or holds with a constant too small to detect
        by sampling; a positive value does not prove it.
    error : float
        Standard error of that number from the sample of v.
    direction : ndarray (N,)
        Unit eigenvector: the combination of training points to which h1 is least sensitive.
    kinds : dict of str to float
        Smallest lambda_min by kind of f2: ``"zero"``, ``"constant"``, ``"smooth"``, ``"signs"``, ``"adversarial"``.
    """

    smallest: float
    error: float
    direction: Array
    kinds: dict[str, float]


def grams(network: Network, features: Features) -> tuple[Array, ...]:
    """Khat_1, ..., Khat_L, (N, N) each."""
    return tuple(mean_gram(network.h1.value(beta)) for beta in features.beta)


def mean_gram(h: Array) -> Array:
    """Khat = (1/m) h^T h, (N, N), of values h (m, N)."""
    out: Array = h.T @ h / len(h)
    return out


def smallest_eigenvalues(network: Network, features: Features) -> Array:
    """Smallest eigenvalues of Khat_1..Khat_L, (L,), from singular values of h1(beta_l): right to 1e-32 of the largest.

    0 where m < N.
    """
    out = np.zeros(network.layers)
    for k, beta in enumerate(features.beta):
        if len(beta) >= network.points:
            out[k] = np.linalg.svd(network.h1.value(beta), compute_uv=False)[-1] ** 2 / len(beta)
    return out


def excess(network: Network, output: AnyArray) -> Excess:
    """Loss of these outputs (N,) above its infimum over all outputs, the gap that Theorem 8 closes.

    Assumes, as the theorem, that phi is convex in the output.
    """
    loss = float(network.loss_of(output))
    least = infimum(network.loss, network.y)
    slope = np.sqrt((network.loss.gradient(output[:, None], network.y[:, None]) ** 2).mean())
    return Excess(loss, least, loss - least, float(slope))


def infimum(loss: Loss, y: Array) -> float:
    """(1/N) sum_n inf_y' phi(y', y_n) of a convex loss of one output, by bisection of its derivative.

    Parameters
    ----------
    loss : Loss
        Convex in the output; where the derivative keeps one sign up to 2**40 the infimum is taken there (a logistic
        loss falls to 0 at infinity).
    y : ndarray (N,)
        Targets.
    """
    target = y[:, None]
    if type(loss) is Squared:  # not one of the user's of that name
        return 0.0
    reach = np.ones_like(target)
    with np.errstate(over="ignore"):  # far out an exponential may be infinite, which is large enough
        for _ in range(40):  # until the derivative changes its sign in between, sample by sample
            inside = (loss.gradient(-reach, target) <= 0) & (loss.gradient(reach, target) >= 0)
            reach = np.where(inside, reach, np.minimum(2 * reach, _FURTHEST))
        low, high = _bisected(lambda output: loss.gradient(output, target) > 0, -reach, reach, 100)
        return float(np.minimum(loss.value(low, target), loss.value(high, target)).mean())


def strong_universality(
    network: Network, bound: float, count: int = 4096, trials: int = 8, rounds: int = 12, seed: int = 0
) -> Universality:
    """Test of Assumption 2: the smallest lambda_min of int h1(X v / d + f2(v)) h1(...)^T N(0, I)(dv) over bounded f2.

    Bounded functions tried: 0, constants, smooth random ones, random signs, and adversaries. An adversary knows a
    direction u and moves every v's features, within [-bound, bound], along sign(u) so as to bring u . h1 nearest to 0,
    which for increasing h1 is the minimum over all f2 of u^T K u; then u becomes the new smallest eigenvector, and so
    on, the value never rising. Fang, Lee, Yang and Zhang (COLT 2021), Assumption 2; the adversary is derived.

    Parameters
    ----------
    network : Network
        Data and h1.
    bound : float
        C_B >= 0, with |f2|_inf <= C_B; the paper's is of the order of (L - 1) sup |h2|.
    count : int, optional
        Draws of v, >> N.
    trials : int, optional
        Functions of each random kind, and adversaries started from random directions.
    rounds : int, optional
        Iterations of an adversary.
    seed : int, optional
        Seed of all draws.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    bound, count = real("bound", bound, least=0.0), whole("count", count)
    trials, rounds = whole("trials", trials), whole("rounds", rounds)
    n, d = network.points, network.inputs
    v = rng.normal(seed, "draws of v", (count, d))
    base = v @ network.x.T / d
    shifts = [("zero", np.zeros(n)), *_shifts(v, n, bound, trials, seed)]
    tested = [(*_bottom(network, base + shift), kind) for kind, shift in shifts]
    starts = [tested[0][2], min(tested, key=lambda trial: trial[0])[2], *rng.normal(seed, "directions", (trials, n))]
    for u in starts:
        before = np.inf
        for _ in range(rounds):
            value, error, u = _bottom(network, base + _adversary(network, base, u, bound))
            tested.append((value, error, u, "adversarial"))
            if value >= (1 - _SETTLED) * before:
                break
            before = value
    value, error, direction, _ = min(tested, key=lambda trial: trial[0])
    kinds = {kind: min(t[0] for t in tested if t[3] == kind) for kind in dict.fromkeys(t[3] for t in tested)}
    return Universality(value, error, direction, kinds)


def _shifts(v: Array, n: int, bound: float, trials: int, seed: int) -> list[tuple[str, Array]]:
    """Random functions f2 at the draws of v, (count, N) or (N,), each within the bound."""
    out: list[tuple[str, Array]] = []
    for trial in range(trials):
        numbers = rng.uniform(seed, "functions", (n, v.shape[1] + 3), step=trial)
        slopes = 6 * numbers[:, : v.shape[1]] - 3
        phase = 2 * np.pi * numbers[:, -1]
        out.append(("constant", bound * (2 * numbers[:, -2] - 1)))
        out.append(("smooth", bound * np.sin(v @ slopes.T + phase)))
        out.append(("signs", bound * np.sign(numbers[:, -3] - 0.5) * np.sign(np.sin(v @ slopes.T + phase))))
    return out


def _bottom(network: Network, features: Array) -> tuple[float, float, Array]:
    """Smallest eigenvalue of the mean Gram matrix, its standard error, and the eigenvector."""
    h = network.h1.value(features)
    u = np.linalg.svd(h, full_matrices=len(h) < h.shape[1])[2][-1]
    squares = (h @ u) ** 2
    return float(squares.mean()), float(squares.std() / np.sqrt(len(h))), u


def _adversary(network: Network, base: Array, u: Array, bound: float) -> Array:
    """f2 = bound t(v) sign(u) with t in [-1, 1] where u . h1(base + f2) is 0 or, failing that, nearest to it."""
    signs = bound * np.sign(u)

    def along(t: Array) -> Any:
        return network.h1.value(base + t[:, None] * signs) @ u

    ends = -np.ones(len(base)), np.ones(len(base))
    first, last = map(along, ends)
    low, high = _bisected(lambda t: (along(t) > 0) == (last > first), *ends, 40)
    t = np.where(first * last < 0, 0.5 * (low + high), np.where(np.abs(first) <= np.abs(last), *ends))
    return t[:, None] * signs


def _bisected(beyond: Callable[[Array], Any], low: Array, high: Array, halvings: int) -> tuple[Array, Array]:
    """Ends of the intervals, halved so many times, within which a condition becomes true."""
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        after = beyond(middle)
        low, high = np.where(after, low, middle), np.where(after, middle, high)
    return low, high
