"""Assumptions 1 to 3 and Lemma 3 of Fang, Lee, Yang and Zhang (COLT 2021), condition by condition.

Conditions are proved in closed form only, and refuted in closed form or by an exact dependence of the data; sampled
eigenvalues neither prove nor refute that a smallest eigenvalue is positive.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from wgflow.base.scaling import largest, unit
from wgflow.base.types import Array
from wgflow.model.losses import LOSSES, Loss
from wgflow.systems.neural_feature_flow.gram import strong_universality
from wgflow.systems.neural_feature_flow.network import Network
from wgflow.theory.assumption import Assumption, Condition, Finding, listed, verdict_of
from wgflow.theory.regularity_classes import suprema

FANG = "Fang, Lee, Yang and Zhang (COLT 2021)"
_EPS = float(np.finfo(float).eps)
_NEAR = 1e-12  # distance of |cos| from the largest within which pairs are compared by their angle
_DRAWS, _TRIALS, _ROUNDS = 1024, 2, 6  # of the search for Assumption 2's smallest eigenvalue
_MOST_POINTS = 256  # for which it is made: draws must be many more
_ZERO = 1e-20  # eigenvalues up to this are those of a bisection's rounding
_OWN = "of your own: its bounds are unknown"
_ODD = ("tanh", "sin", "linear")


_LOSS_BOUNDS = {  # |phi'| and the Lipschitz constant of phi', in the output
    "squared": (math.inf, 1.0),
    "huber": (1.0, 1.0),
    "logistic": (1.0, 0.25),
}


class Nearest(NamedTuple):
    """The two inputs that are nearest to parallel.

    Attributes
    ----------
    angle, cosine : float
        Smallest angle between the lines of two inputs, in [0, pi/2], and its cosine |x.x'| / (|x| |x'|).
    rounding : float
        Angles up to this may be 0.
    pair : tuple of int
        Rows of the two.
    """

    angle: float
    cosine: float
    rounding: float
    pair: tuple[int, int]


def loss_bounds(loss: Loss) -> tuple[float, float] | None:
    """Suprema of |phi'| and |phi''| of a built-in loss of one output; None for one of the user's."""
    return _LOSS_BOUNDS.get(loss.name) if type(loss) is type(LOSSES.get(loss.name)) else None


def smallest_angle(x: Array) -> Nearest | None:
    """Smallest angle between the lines of two rows of x (N, d), by their chord; None for a single row.

    A row of zeros is parallel to every other.
    """
    count, inputs = x.shape
    if count < 2:
        return None
    x = x / unit(largest(x, 1))[:, None]
    size = np.linalg.norm(x, axis=1)
    rounding = (inputs + 4) * _EPS
    if not size.all():
        zero = int(np.argmin(size))
        return Nearest(0.0, 1.0, rounding, (zero, int(zero == 0)))
    line = x / size[:, None]
    product = line @ line.T
    cosine = np.triu(np.abs(product), 1)
    first, second = np.nonzero(cosine >= cosine.max() - _NEAR)
    kept = first < second
    first, second = first[kept], second[kept]
    sign = np.where(product[first, second] < 0, -1.0, 1.0)
    chord = np.linalg.norm(line[first] - sign[:, None] * line[second], axis=1)
    least = int(np.argmin(chord))
    pair = int(first[least]), int(second[least])
    return Nearest(float(2 * np.arcsin(chord[least] / 2)), float(min(1.0, cosine[pair])), rounding, pair)


def bounded_and_smooth(network: Network) -> Assumption:
    """Assumption 1: h1, h2 bounded with bounded Lipschitz derivatives, phi with a bounded Lipschitz derivative."""
    units = {"h1": network.h1} | ({"h2": network.h2} if network.skip else {})
    conditions = []
    for name, h in units.items():
        known = suprema(h)
        parts = (("|{0}| <= L1", "sup |{0}|"), ("|{0}'| <= L2", "sup |{0}'|"), ("{0}' L3-Lipschitz", "sup |{0}''|"))
        for k, (text, what) in enumerate(parts):
            conditions.append(_supremum(text.format(name), what.format(name), known and known[k], h.name))
    of_loss = loss_bounds(network.loss)
    conditions += [
        _supremum("|phi'| <= L4", "sup |phi'|", of_loss and of_loss[0], network.loss.name),
        _supremum("phi' L5-Lipschitz", "sup |phi''|", of_loss and of_loss[1], network.loss.name),
    ]
    return _assumption("Assumption 1: bounded, Lipschitz derivatives", conditions, math.nan, "Assumption 1")


def _supremum(name: str, what: str, value: float | None, of: str) -> Condition:
    if value is None:
        return Condition(name, "not checked", f"{of} is {_OWN}")
    finding: Finding = "proved" if math.isfinite(value) else "refuted"
    return Condition(name, finding, f"{what} = {value:.4g} for {of}")


def non_parallel(network: Network) -> Assumption:
    """Data of Lemma 3, no two inputs parallel, and its classes of h1: sufficient for Assumption 2, not necessary."""
    nearest = smallest_angle(network.x)
    if nearest is None:
        zero = not network.x.any()
        reason = "the one input is 0, a multiple of every other" if zero else "there is one input"
        data = Condition("no two inputs are parallel", "refuted" if zero else "proved", reason)
    else:
        i, j = nearest.pair
        apart = nearest.angle > nearest.rounding
        reason = (
            f"smallest angle {nearest.angle:.3g} rad, |cos| = {nearest.cosine:.9g}, of rows {i} and {j}"
            if apart
            else f"rows {i} and {j} make an angle of 0 up to rounding ({nearest.angle:.1g} <= {nearest.rounding:.1g})"
        )
        data = Condition(
            "no two inputs are parallel",
            "proved" if apart else "refuted" if _parallel(network.x[i], network.x[j]) else "not checked",
            reason,
        )
    power = network.h1.builtin and network.h1.name in ("relu", "squared_relu")
    h1 = Condition(
        "h1 in a class of Lemma 3",
        "proved" if power else "not checked",
        f"{network.h1.name} is a power of relu" if power else "h1(x) = g(c x) for small enough c; c is not computed",
    )
    number = math.nan if nearest is None else nearest.angle
    return _assumption("Lemma 3: non-parallel data (sufficient for Assumption 2)", [data, h1], number, "Lemma 3")


def _parallel(x: Array, y: Array) -> bool:
    """Whether two inputs are parallel, exactly: rationals have no rounding."""
    a, b = ([Fraction(float(entry)) for entry in row] for row in (x, y))
    k = next((k for k, entry in enumerate(a) if entry), None)
    return k is None or all(a[k] * right == b[k] * left for left, right in zip(a, b, strict=True))


def dependence(network: Network) -> str:
    """An exact linear dependence of the functions h1(x_n v / d) of v, or "" if none of the known kinds is there."""
    x, odd = network.x, network.h1.builtin and network.h1.name in _ODD
    if network.h1.builtin and network.h1.name == "linear" and network.points > network.inputs:
        return f"{network.points} linear functions of {network.inputs} inputs"
    rows = {tuple(row): n for n, row in enumerate(x + 0.0)}  # -0.0 becomes 0.0
    if len(rows) < len(x):
        return "equal inputs"
    zero = network.h1.value(np.zeros(1))[0] == 0 and not x.any(axis=1).all()
    if zero:
        return "an input of zeros where h1(0) = 0"
    opposite = [(n, rows[tuple(-row + 0.0)]) for n, row in enumerate(x) if tuple(-row + 0.0) in rows]
    if odd and opposite:
        return "rows {} and {}, x and -x, under an odd h1".format(*opposite[0])
    return ""


def strong_universal(network: Network, seed: int = 0) -> Assumption:
    """Assumption 2, with C_B = (L - 1) sup |h2|: how far the layers above the first can move a feature.

    lambda_min(f2) is the smallest eigenvalue of int h1(X v/d + f2(v)) h1(X v/d + f2(v))^T N(0, I)(dv).

    Refuted by an exact dependence at f2 = 0. Otherwise the smallest eigenvalue over the f2 tried is an upper bound of
    the assumption's, which proves nothing however large it is.
    """
    name, source = "Assumption 2: strong universal approximation", "Assumption 2"
    condition = "lambda_min(f2) >= lambda > 0 for |f2| <= C_B"
    exact = dependence(network)
    if exact:
        found = Condition(condition, "refuted", f"0 at f2 = 0: {exact}")
        return _assumption(name, [found], 0.0, source)
    known = suprema(network.h2)
    reach = math.inf if known is None else (network.layers - 1) * known.value
    if not math.isfinite(reach):
        why = f"no bound C_B: sup |h2| is {'unknown' if known is None else 'infinite'} for {network.h2.name}"
        return _assumption(name, [Condition(condition, "not checked", why)], math.nan, source)
    if network.points > _MOST_POINTS:
        why = f"not searched: {network.points} points, more than {_MOST_POINTS}"
        return _assumption(name, [Condition(condition, "not checked", why)], math.nan, source)
    tried = strong_universality(network, reach, _DRAWS, _TRIALS, _ROUNDS, seed)
    least = f"at most {tried.smallest:.2g} (standard error {tried.error:.1g})"
    if tried.smallest <= _ZERO:
        least = f"0 up to rounding ({tried.smallest:.1g}) at {_DRAWS} draws of v"
    reason = f"{least} over the f2 tried, C_B = {reach:g}"
    return _assumption(name, [Condition(condition, "not checked", reason)], tried.smallest, source)


def initial_law(network: Network, start: str, last: str = "constant") -> Assumption:
    """Assumption 3 on the limit law of a start (``minimum_norm``, ``ideal``, ``standard``).

    From minimum-norm weights p is Gaussian with covariances sigma^2 K_l, and v_l = h1(beta_(l-1))^T K_(l-1)^+ alpha_l
    meets every alpha_l in the range of K_(l-1), which is where p lives. From standard weights alpha_l = O(m^(-1/2))
    tends to 0 (Proposition 1). Both want E h1(beta)^2 finite, which is not known of an activation of the user's.
    """
    name, source = "Assumption 3: initial law", "Assumption 3"
    full = "p has full support"
    finite = all(suprema(h) is not None for h in (network.h1, *([network.h2] if network.skip else [])))
    unknown = "K_l = E h1(beta_l) h1(beta_l)^T of an activation of your own may be infinite"
    if start == "standard":
        conditions = [
            Condition(full, "refuted", "alpha_l = O(m^(-1/2)): its limit law is a point mass at 0")
            if finite
            else Condition(full, "not checked", unknown)
        ]
        return _assumption(name, conditions, math.nan, source)
    exact, known = dependence(network), suprema(network.h1)
    conditions = [
        Condition("(v_l, p) feasible", "proved", "alpha_l ~ N(0, sigma^2 K_(l-1)) lies in the range of K_(l-1)")
        if finite
        else Condition("(v_l, p) feasible", "not checked", unknown),
        Condition("p sub-Gaussian", *(("proved", "p is Gaussian") if finite else ("not checked", unknown))),
        Condition(full, "refuted", f"K_1 is singular: {exact}")
        if exact
        else Condition(full, "not checked", "K_l > 0 has no closed form; its eigenvalues at m units are observed"),
    ]
    tame = known is not None and math.isfinite(known.value) and math.isfinite(known.slope)
    bounded: Finding = "proved" if tame else "not checked"
    reason = f"h1 = {network.h1.name} {'is' if tame else 'is not known to be'} bounded and Lipschitz"
    conditions.append(Condition("v_l of linear growth and locally Lipschitz", bounded, reason))
    if last == "constant":
        conditions.append(Condition("v_(L+1) bounded and Lipschitz", "proved", "it is constant"))
    else:
        conditions.append(Condition("v_(L+1) bounded and Lipschitz", bounded, reason))
    return _assumption(name, conditions, math.nan, source)


def convex_loss(network: Network) -> Condition:
    """Condition of Theorem 8: phi is convex in the output."""
    known = loss_bounds(network.loss) is not None
    reason = f"{network.loss.name} is convex" if known else f"{network.loss.name} is of your own"
    return Condition("phi convex in the output", "proved" if known else "not checked", reason)


def check(network: Network, start: str, last: str = "constant", seed: int = 0) -> list[Assumption]:
    """Assumptions 1, 2 and 3 and Lemma 3 for a network and its start, with a verdict each."""
    return [
        bounded_and_smooth(network),
        strong_universal(network, seed),
        non_parallel(network),
        initial_law(network, start, last),
    ]


def _assumption(name: str, conditions: list[Condition], number: float, source: str) -> Assumption:
    conditions_ = tuple(conditions)
    return Assumption(name, verdict_of(conditions_), number, listed(conditions_), f"{FANG}, {source}", conditions_)
