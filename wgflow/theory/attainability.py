"""Whether some measure has E = 0: what equal inputs, the readout and the order of points on a line allow.

The squared loss is 0 where X(1) = z_m with W1 z_m = y_m for all samples. A flow in depth, dX/dt = int f(X, theta) drho
with a right-hand side Lipschitz in X, is one-to-one: equal inputs X(0) = W2 x have equal z, distinct ones have distinct
z, and for D = 1 the map from X(0) to z increases. Conversely (derived), distinct points of R^D, D >= 2, are carried to
any distinct points by paths that do not meet, and for D = 1 to any points in the same order. If {int f drho} is dense
in the continuous functions, its values at M distinct points are a dense convex subset of R^(M D), hence all of it: the
velocities of those paths are values of int f drho at every depth, with finitely many blocks whose masses are continuous
in depth. So E = 0 is attained by a flow if and only if

    equal X(0) have equal targets, and these lie in the range of W1;
    where W1 is one-to-one, distinct X(0) have distinct targets, for D = 1 in the order of X(0),

the second because otherwise some z with W1 z = y_m are free to differ. Ties and rank deficits leave inf E = 0, which is
not attained. The two-layer model X(1) = X(0) + int f(X(0), theta) drho needs the first line alone, and so may a network
of finitely many Euler steps, which can exchange points.
"""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import entr

from wgflow.base.types import Array, Index
from wgflow.base.verdict import Claim
from wgflow.base.verdict import Verdict as DecidedClaim
from wgflow.model.blocks import BLOCKS
from wgflow.model.losses import LOSSES
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, LU, Assumption, Condition, Finding, listed, verdict_of
from wgflow.theory.density import density
from wgflow.theory.nearest_neighbours import smallest_distance
from wgflow.theory.reference_laws import Law, draws
from wgflow.theory.universality import chosen, gram, spectrum

_FITTED = 1024  # rows of the fit to the targets, at most
_ELIMINATED = 2**10  # numbers of a matrix whose rank is found by exact elimination, at most
_EPS = float(np.finfo(np.float64).eps)

ABOVE_ZERO = Claim(
    "loss_bounded_above_zero", "lower bound of E", ">", "rounding",
    holds="For every network E ≥ {left:.3g}: equal inputs have different targets, or targets leave the readout's range",
    fails="Equal inputs and the range of the readout give no positive lower bound of E",
    unknown="The lower bound of E is not a number",
)  # fmt: skip
ORDER = Claim(
    "order_bounds_loss", "lower bound of E over flows in depth", ">", "rounding",
    holds="For every flow in depth E ≥ {left:.3g}: on a line it keeps the order of the inputs, and the targets do not",
    fails="The order of the inputs on the line gives no positive lower bound of E",
    unknown="The lower bound of E by the order of the inputs is not a number",
)  # fmt: skip
FITS = Claim(
    "features_fit_targets", "squared residual over squared targets", "<=", "rounding",
    holds="{features} random features in one layer fit the targets at {where}",
    fails="{features} random features in one layer leave {left:.2g} of the squared targets at {where}",
    unknown="The residual at {where} is not a number",
)  # fmt: skip


def attainable(problem: Problem, law: Law, seed: int = 0, flow: bool = True) -> Assumption:
    """Whether some measure has E = 0: by equal inputs, the readout, the order on a line, and the density of the block.

    Parameters
    ----------
    problem : Problem
        The problem.
    law : callable
        Reference law of the random features; its depths are not used.
    seed : int, optional
        Seed of the features and of the choice of samples.
    flow : bool, optional
        Whether of a flow in depth, as in the theorems, or of the two-layer model.

    Returns
    -------
    Assumption
        ``pass`` and ``fail`` in closed form only, as in the module's text. ``number`` is the lower bound of E, where it
        is positive; 0 where the infimum 0 is not attained; else the squared residual over the squared targets of a
        least-squares fit by random features W1 f(X(0), theta_j), twice as many as its at most 1024 numbers m K, which
        decides nothing.
    """
    result = partial(
        Assumption, "zero loss attainable", source=f"{LU}, and {DING}, Theorem 6.1: their conclusion E = 0"
    )
    known = problem.loss.name if type(problem.loss) is type(LOSSES.get(problem.loss.name)) else ""
    if known in ("cross_entropy", "logistic"):
        what = "cross-entropy of these targets" if known == "cross_entropy" else "logistic loss of these labels"
        bound = _entropy_bound(problem) if known == "cross_entropy" else _logistic_bound(problem)
        reason = f"the {what} is at least {bound:.3g}" + (
            ", above 0" if bound > 0 else ", an infimum that only infinite outputs reach: it is not attained"
        )
        only = Condition("E = 0 is attained", "refuted", reason)
        return result("fail", bound, listed([only]), conditions=(only,))
    if known != "squared":
        only = Condition("E = 0 is attained", "not checked", f"nothing is known of the loss {problem.loss.name!r}")
        return result("unknown", float("nan"), listed([only]), conditions=(only,))
    conditions, claims, bound = [], list[DecidedClaim](), 0.0
    for condition, claim in _necessary(problem, flow):
        conditions.append(condition)
        claims += [] if claim is None else [claim]
        bound = max(bound, 0.0 if claim is None or not claim.holds else claim.inequalities[0].left)
    conditions.append(_sufficient(problem))
    verdict, said = verdict_of(conditions), "Of flows in depth" if flow else "Of the two-layer model"
    if verdict == "fail" or not problem.linear:
        number = bound if verdict == "fail" else float("nan")
        return result(
            verdict, number, f"{said}: {listed(conditions)}", conditions=tuple(conditions), verdicts=tuple(claims)
        )
    fit = _fit(problem, law, seed)
    sentence = f"{said}: {listed(conditions)} {fit}; that decides nothing."
    return result(verdict, fit.inequalities[0].left, sentence, conditions=tuple(conditions), verdicts=(*claims, fit))


def lower_bound(problem: Problem) -> float:
    """Lower bound of E under the squared loss: mean_m |y_m - Pi ybar_m|**2 / 2.

    ybar is the mean target of the inputs equal to x_m, and Pi the projection onto the range of a linear readout W1.
    """
    first, group = _first_targets(problem)
    apart = problem.y - first[group]  # not of targets less their mean, whose rounding may exceed what they differ by
    shift = _means(apart, group)
    bound = _mean_square(apart - shift[group])
    if problem.linear and not _onto(problem):
        mean = first + shift
        outside = _mean_square((mean - mean @ (problem.readout @ np.linalg.pinv(problem.readout)).T)[group])
        bound += outside if outside > _rounding(problem) else 0.0
    return bound


def order_bound(problem: Problem) -> float:
    """Lower bound of E over flows for D = 1: mean_m |y_m - W1 z_m|**2 / 2 with the best z that do not decrease in X(0).

    By isotonic regression of W1 . ybar / |W1|**2 over the distinct X(0), in increasing order.
    """
    mean, group = _mean_targets(problem)
    along = problem.readout[:, 0] / np.abs(problem.readout).max()
    best = isotonic_regression(mean @ along / (along @ along), weights=np.bincount(group).astype(float)).x
    return _mean_square(problem.y - best[group][:, None] * along)


def _mean_square(rows: Array) -> float:
    """Half the mean of |row|**2; the largest number there is where it is larger, as a lower bound may be."""
    with np.errstate(over="ignore"):
        return min(float(0.5 * (rows**2).sum(axis=1).mean()), float(np.finfo(np.float64).max))


def _rounding(problem: Problem) -> float:
    return 1e-24 * float((problem.y**2).sum(axis=1).mean())


def _onto(problem: Problem) -> bool:
    return _rank(problem.readout) == len(problem.readout)


def _necessary(problem: Problem, flow: bool) -> list[tuple[Condition, DecidedClaim | None]]:
    """Conditions on the data, and on the readout if it is linear."""
    first, group = _first_targets(problem)
    rounding = _rounding(problem)
    equal = bool((problem.y == first[group]).all())
    inside = not problem.linear or _onto(problem) or not problem.y.any()  # seen up to rounding otherwise
    above = ABOVE_ZERO(0.0 if equal and inside else lower_bound(problem), rounding if equal else 0.0)
    name = "equal inputs have equal targets, in the range of W1"
    if above.holds:
        return [(Condition(name, "refuted", str(above)), above)]
    told = _apart(problem, len(first))
    reasons = [] if told else ["some X(0) = W2 x differ by no more than rounding"]
    reasons += [] if equal else ["some targets differ by no more than rounding"]
    reasons += [] if inside else ["in the range up to rounding"]
    finding: Finding = "not checked" if reasons else "proved"
    seen = Condition(name, finding, "; ".join([f"{len(first)} distinct inputs", *reasons]))
    out: list[tuple[Condition, DecidedClaim | None]] = [(seen, above)]
    if not problem.linear:
        unknown = f"nothing is known of the values of {problem.measuring.name} outputs"
        return [*out, (Condition("g takes the targets' values", "not checked", unknown), None)]
    return [*out, _one_to_one(problem, first, told, rounding)] if flow else out


def _one_to_one(problem: Problem, first: Array, told: bool, rounding: float) -> tuple[Condition, DecidedClaim | None]:
    """Whether a flow, one-to-one and on a line increasing, can have the targets (G, K) of the distinct X(0)."""
    width = problem.shape[1]
    name = "distinct inputs can have distinct end states" + (", in the order of X(0)" if width == 1 else "")
    rank = min(len(problem.readout), width - 1) if len(problem.readout) < width else _rank(problem.readout)
    if rank is None:
        return Condition(name, "not checked", "whether W1 is one-to-one is not seen up to rounding"), None
    if rank < width:
        return Condition(name, "proved", "W1 is not one-to-one, so that end states of one target may differ"), None
    if type(problem.block) not in BLOCKS.values() or not problem.activation.builtin or not told:
        reason = "a block or activation of your own may not be Lipschitz in X" if told else "X(0) agree up to rounding"
        return Condition(name, "not checked", reason), None
    if width > 1:
        ties = len(first) - len(np.unique(first, axis=0))
        if ties:
            reason = f"{ties} targets repeat those of other inputs, and W1 is one-to-one: inf E = 0 is not attained"
            return Condition(name, "refuted", reason), None
        return Condition(name, "proved", f"D = {width} >= 2 and all targets differ"), None
    order = ORDER(order_bound(problem), rounding)
    if order.holds:
        return Condition(name, "refuted", str(order)), order
    column = int(np.argmax(np.abs(problem.readout[:, 0])))
    rise = np.sign(problem.readout[column, 0]) * np.diff(first[:, column])
    if (rise > 0).all():
        return Condition(name, "proved", "the targets increase"), order
    reason = f"{int((rise <= 0).sum())} targets do not increase: inf E = 0 up to rounding is not attained"
    return Condition(name, "refuted", reason), order


def _sufficient(problem: Problem) -> Condition:
    """The block reaches all velocities at finitely many points if int f drho is dense."""
    dense, name = density(problem), "int f drho has all values at finitely many points"
    if dense.finding == "proved":
        return Condition(name, "proved", f"{dense.name}: {dense.reason}")
    return Condition(name, "not checked", f"{dense.name} is {dense.finding}: {dense.reason}")


def _apart(problem: Problem, distinct: int) -> bool:
    """Whether distinct X(0) are distinct beyond the rounding of W2 x, which is exact with one entry to a row of W2."""
    if distinct < 2 or (np.count_nonzero(problem.embed, axis=1) <= 1).all():
        return True
    error = 4 * problem.x.shape[1] * _EPS * float((np.abs(problem.x) @ np.abs(problem.embed).T).max())
    states = np.unique(problem.start(), axis=0)
    along = np.ones(states.shape[1]) / np.sqrt(
        states.shape[1]
    )  # distances along a line are no larger, and quickly seen
    if np.diff(np.sort(states @ along)).min() > 4 * error:
        return True
    return bool(smallest_distance(states) > error)


def _rank(matrix: Array) -> int | None:
    """Rank of a matrix of floats: by singular values if it is full, else by exact elimination; None if that is long."""
    rank = int(np.linalg.matrix_rank(matrix))
    if rank == min(matrix.shape) or not matrix.any():
        return rank
    if matrix.size > _ELIMINATED:
        return None
    rows = [[Fraction(float(entry)) for entry in row] for row in matrix]
    rank = 0
    for column in range(matrix.shape[1]):
        pivot = next((k for k in range(rank, len(rows)) if rows[k][column]), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        for row in rows[rank + 1 :]:
            factor = row[column] / rows[rank][column]
            row[:] = [entry - factor * above for entry, above in zip(row, rows[rank], strict=True)]
        rank += 1
    return rank


def _fit(problem: Problem, law: Law, seed: int) -> DecidedClaim:
    """Least-squares fit of the targets by random features, the network to first order in its blocks."""
    outputs = problem.shape[2]
    rows = chosen(problem, max(1, _FITTED // outputs), seed)
    count = 2 * outputs * len(rows)
    matrix = gram(problem, draws(law, count, seed, 1, "features")[0][0], rows, "output")
    values, vectors = np.linalg.eigh(matrix)
    eigenvalues = spectrum(values)
    target = (problem.y - problem.start() @ problem.readout.T)[rows].ravel()
    inside = vectors[:, len(values) - eigenvalues.rank :]
    missed = target - inside @ (inside.T @ target)
    total = float(target @ target)
    residual = float(missed @ missed) / total if total > 0 else 0.0
    where = f"{len(rows)} of {len(problem.x)} samples (rank {eigenvalues.rank} of {eigenvalues.size})"
    return FITS(residual, 1e-20, features=count, where=where)


def _entropy_bound(problem: Problem) -> float:
    """Mean entropy of the mean target of equal inputs, below which no cross-entropy falls."""
    mean, group = _mean_targets(problem)
    inside = np.where(mean > 0, mean, 1.0)
    return float(-(mean * np.log(inside)).sum(axis=1) @ np.bincount(group) / len(group))


def _logistic_bound(problem: Problem) -> float:
    """Mean over samples of the binary entropies of equal inputs' labels, below which no logistic loss falls."""
    mean, group = _mean_targets(problem)
    entropy = entr(0.5 * (1 + mean)) + entr(0.5 * (1 - mean))
    return float(entropy.sum(axis=1) @ np.bincount(group) / len(group))


def _groups(problem: Problem) -> tuple[Index, Index]:
    """First sample of each group of equal X(0), in increasing order, and the group of each sample."""
    _, first, group = np.unique(problem.start() + 0.0, axis=0, return_index=True, return_inverse=True)
    return first, group.ravel()


def _first_targets(problem: Problem) -> tuple[Array, Index]:
    first, group = _groups(problem)
    return problem.y[first], group


def _mean_targets(problem: Problem) -> tuple[Array, Index]:
    """Mean target of each group of equal inputs, and the group of each sample."""
    group = _groups(problem)[1]
    return _means(problem.y, group), group


def _means(rows: Array, group: Index) -> Array:
    """Mean of the rows of each group."""
    count = np.bincount(group)
    sums = np.zeros((len(count), rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums / count[:, None]
