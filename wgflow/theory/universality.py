"""Whether the block can express enough: the universal kernel, in closed form and by its Gram matrix.

The landscape theorems ask that {int f(x, theta) drho} is dense in the continuous functions. At finitely many points
that implies that K(x, x') = int f(x, theta) f(x', theta)^T drho_0(theta), over a reference law rho_0, has a Gram
matrix of full rank; the converse is false.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from wgflow.base import rng
from wgflow.base.types import Array, Index
from wgflow.base.validate import whole
from wgflow.model.problem import Problem
from wgflow.theory.assumption import DING, LU, Assumption, Condition, listed, verdict_of
from wgflow.theory.density import density
from wgflow.theory.reference_laws import Law, draws

_FRESH = 64  # points besides the data
_AT_ONCE = 2**22  # numbers of features in memory
_MATRIX_ROWS = 512  # rows of the matrix-valued kernel, at most
_SPAN_ENDS = 1e6  # a spectrum that falls by this in one step ends there; a smooth kernel's decays
_FAR = 1e3  # largest factor on parameters that are tried of a block of the user's


class Spectrum(NamedTuple):
    """Spectrum of a Gram matrix.

    Attributes
    ----------
    size : int
        Rows of the matrix.
    rank : int
        Eigenvalues above size * eps times the largest.
    smallest, largest : float
        Extreme eigenvalues; a smallest below rounding may come out negative.
    ends : bool
        Whether the rank is not full and the last eigenvalue counted is 10**6 times the tolerance or more: a block that
        spans finitely many functions, rather than eigenvalues that decay below rounding.
    """

    size: int
    rank: int
    smallest: float
    largest: float
    ends: bool


def gram(problem: Problem, theta: Array, rows: Index, kind: str = "scalar") -> Array:
    """Gram matrix of the kernel of J features at X(0) of some samples.

    Parameters
    ----------
    problem : Problem
        Block and data.
    theta : ndarray (J, P)
        Draws of the reference law.
    rows : ndarray (m,), int64
        Samples.
    kind : {"scalar", "matrix", "output"}, optional
        ``scalar``: mean_j f(x, theta_j) . f(x', theta_j), (m, m). ``matrix``: mean_j f(x, theta_j) f(x', theta_j)^T,
        (m D, m D). ``output``: the same of W1 f, (m K, m K).

    Returns
    -------
    ndarray
        Summed over blocks of features, each evaluated through the block's own ``forward``.
    """
    return _gram(problem, theta, problem.start()[rows], kind)


def _gram(problem: Problem, theta: Array, x: Array, kind: str) -> Array:
    """Gram matrix, as of :func:`gram`, at states x (m, D)."""
    total = np.zeros(())
    per = max(1, _AT_ONCE // x.size)
    for low in range(0, len(theta), per):
        values = np.stack([problem.block.forward(x, row, problem.activation) for row in theta[low : low + per]])
        if kind == "output":
            values = values @ problem.readout.T
        if kind == "scalar":
            features = values.transpose(1, 0, 2).reshape(len(x), -1)
        else:
            features = values.reshape(len(values), -1).T
        total = total + features @ features.T
    return total / len(theta)


def spectrum(values: Array) -> Spectrum:
    """Rank and extremes from the eigenvalues (n,) of a Gram matrix in increasing order."""
    tolerance = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    rank = int(np.count_nonzero(values > tolerance))
    ends = rank < len(values) and (rank == 0 or values[-rank] >= _SPAN_ENDS * tolerance)
    return Spectrum(len(values), rank, float(values[0]), float(values[-1]), bool(ends))


def universal_kernel(problem: Problem, law: Law, seed: int = 0, samples: int = 1024) -> Assumption:
    """Whether int f(x, theta) drho can approximate every continuous function: in closed form, and by Gram matrices.

    Gram matrices of the scalar kernel and, on fewer points, of the matrix-valued one, at distinct inputs X(0) and at 64
    fresh Gaussian points with their mean and spread. Full rank is necessary and proves nothing. A spectrum that ends at
    once shows that the parameters drawn span few functions; others of a block of the user's may span more.

    Parameters
    ----------
    problem : Problem
        The problem.
    law : callable
        Reference law; its depths are not used.
    seed : int, optional
        Seed of the features, of the fresh points and of the choice of samples.
    samples : int, optional
        Samples of the scalar kernel at most; the matrix-valued one has at most 512 rows, D to a point, half of them at
        fresh points. Each takes twice as many features as rows.

    Returns
    -------
    Assumption
        ``number`` is the smallest eigenvalue of the scalar kernel over its largest. ``pass`` and ``fail`` in closed
        form only (:func:`wgflow.theory.density.density`); where there is none, ``unknown``, with what was observed if a
        spectrum ends, also with parameters up to a thousand times as large.
    """
    source = f"{LU}, assumption of a universal kernel; {DING}, section 5"
    x, width = problem.start(), problem.shape[1]
    distinct, used = np.unique(x, axis=0), whole("samples", samples)
    law_seed = partial(_theta, law, seed=seed)
    many = _points(distinct, used, _FRESH, seed)
    scalar = spectrum(np.linalg.eigvalsh(_gram(problem, law_seed(2 * len(many)), many, "scalar")))
    points = max(1, _MATRIX_ROWS // width)
    few = _points(distinct, points - min(_FRESH, points // 2), min(_FRESH, points // 2), seed)
    matrix = spectrum(np.linalg.eigvalsh(_gram(problem, law_seed(2 * width * len(few)), few, "matrix")))
    ratio = scalar.smallest / scalar.largest if scalar.largest > 0 else 0.0
    sentence = (
        f"At {len(many) - _FRESH} of {len(distinct)} distinct inputs and {_FRESH} fresh points the scalar kernel has "
        f"rank {scalar.rank} of {scalar.size}, smallest eigenvalue {scalar.smallest:.2g} ({ratio:.2g} of the largest); "
        f"at {len(few)} points the matrix-valued one has rank {matrix.rank} of {matrix.size}."
    )
    if len(distinct) < len(x):
        sentence += f" {len(x) - len(distinct)} inputs repeat others."
    conditions: tuple[Condition, ...] = (density(problem),)
    if conditions[0].finding == "not checked" and (scalar.ends or matrix.ends):
        ended, points_, kind, rows = (scalar, many, "scalar", 1) if scalar.ends else (matrix, few, "matrix", width)
        # A function of the user's may be 0 or linear up to any radius and span everything beyond.
        far = law_seed(2 * rows * len(points_))
        far = far * np.geomspace(1.0, _FAR, len(far))[:, None]
        wider = spectrum(np.linalg.eigvalsh(_gram(problem, far, points_, kind)))
        reason = f"rank {ended.rank} < {ended.size}, by a spectrum that ends at once"
        also = "the same" if wider.ends and wider.rank <= ended.rank else f"but rank {wider.rank}"
        reason += f", {also} with parameters up to {_FAR:g} times as large"
        conditions += (Condition("spans more functions than there are points", "not checked", reason),)
    elif conditions[0].finding == "refuted":
        pass
    elif scalar.rank == scalar.size and matrix.rank == matrix.size:
        sentence += " Full rank: not refuted at these points."
    else:
        sentence += " Eigenvalues decay below rounding, as those of a smooth kernel do: not refuted at these points."
    return Assumption(
        "universal kernel", verdict_of(conditions), ratio, f"{sentence} {listed(conditions)}", source, conditions
    )


def _points(distinct: Array, count: int, fresh: int, seed: int) -> Array:
    """Some of the distinct inputs, and fresh points, which a block that spans few functions cannot tell apart."""
    order = np.arange(len(distinct))
    if len(distinct) > count:
        order = np.sort(rng.permutation(seed, "samples of a Gram matrix", len(distinct))[:count])
    spread = float(distinct.std()) or 1.0
    drawn = rng.normal(seed, "fresh points of a Gram matrix", (fresh, distinct.shape[1]))
    return np.concatenate([distinct[order], distinct.mean(axis=0) + spread * drawn])


def chosen(problem: Problem, count: int, seed: int) -> Index:
    """All samples, or ``count`` of them at random, in increasing order."""
    total = len(problem.x)
    if total <= count:
        return np.arange(total)
    return np.sort(rng.permutation(seed, "samples of a Gram matrix", total)[:count])


def _theta(law: Law, count: int, seed: int) -> Array:
    return draws(law, count, seed, 1, "features")[0][0]
