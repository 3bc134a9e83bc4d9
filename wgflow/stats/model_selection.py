"""Which law of the output error predicts sizes that it was not fitted to.

Laws with more parameters always fit better, so laws are held against errors left out of the fit: one size (L, M_l) at a
time, or a whole depth or width, which asks a law to carry over to sizes beyond or between those it has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgflow.base.errors import InputError, describe
from wgflow.base.registry import lookup
from wgflow.base.types import Array
from wgflow.stats.convergence_rates import MIN_SEEDS, Interval, student_t
from wgflow.stats.fit import cell_rms, check_identifiable, check_squares, fit_parameters
from wgflow.stats.scaling_laws import LAWS, Law, Sizes, predict

LEAVE = ("size", "depth", "width")


class CrossValidation(NamedTuple):
    """Laws by their error at sizes left out.

    Attributes
    ----------
    laws : tuple of str
        Best first.
    score : ndarray (n,)
        Mean over the sizes of (log rms measured - log rms predicted from the others)**2, in that order.
    behind : tuple of Interval
        Score minus the best law's, with a 95% interval of the paired difference; the best law's own is 0.
    left_out : str
        What was left out at a time.
    """

    laws: tuple[str, ...]
    score: Array
    behind: tuple[Interval, ...]
    left_out: str

    @property
    def decided(self) -> bool:
        """Whether every other law's interval lies above 0."""
        return all(each.low > 0 for each in self.behind[1:])


def cross_validate(
    squares: Array, sizes: Sizes, laws: Sequence[str] = ("path", "independent"), leave: str = "size"
) -> CrossValidation:
    """Order laws by how they predict sizes left out.

    Parameters
    ----------
    squares : ndarray (S, nL, nM)
        As for :func:`wgflow.stats.fit.fit_law`.
    sizes : Sizes
        Their L and M_l and the reference.
    laws : sequence of str, optional
        At least two keys of :data:`wgflow.stats.scaling_laws.LAWS`.
    leave : str, optional
        ``size``, ``depth`` (all widths of one L) or ``width``.

    Returns
    -------
    Choice
        Intervals are value +- t se with the jackknife's standard error over whole seeds (a bootstrap would fit every
        law some hundred times as often) and Student's t of S - 1 degrees of freedom; NaN below 4 seeds. They say what
        other seeds could change on this grid, not what another grid could.

    Raises
    ------
    InputError
        If a law or ``leave`` is unknown, or the sizes that are left are too few for a law.
    """
    if leave not in LEAVE:
        raise InputError(f"leave: expected one of {', '.join(LEAVE)}, got {describe(leave)}")
    if len(set(laws)) < 2 or len(set(laws)) < len(laws):
        raise InputError(f"laws: expected at least two different names, got {list(laws)}")
    chosen = [lookup("law", law, LAWS) for law in laws]
    squares, seeds = check_squares(squares, sizes), len(squares)
    whole = cell_rms(squares, np.ones((1, seeds)))[0]
    score = np.array([_score(whole, sizes, law, leave) for law in chosen])
    order = np.argsort(score, kind="stable")
    gap = score - score[order[0]]
    reach = np.full(len(score), np.nan)
    if seeds >= MIN_SEEDS:
        others = cell_rms(squares, 1.0 - np.eye(seeds))
        again = np.array([[_score(each, sizes, law, leave) for law in chosen] for each in others])
        again -= again[:, order[:1]]
        reach = student_t(seeds) * np.sqrt((seeds - 1) * again.var(axis=0))
    behind = (Interval(float(gap[k]), float(gap[k] - reach[k]), float(gap[k] + reach[k])) for k in order)
    return CrossValidation(tuple(laws[k] for k in order), score[order], tuple(behind), leave)


def _score(observed: Array, sizes: Sizes, law: Law, leave: str) -> float:
    """Mean squared log error of predictions at sizes left out."""
    start, off = fit_parameters(observed, sizes, law), []
    for out in _parts(observed, leave):
        rest = np.where(out, np.nan, observed)
        check_identifiable(rest, law)
        fitted = predict(fit_parameters(rest, sizes, law, start), sizes, law)
        off.append((np.log(observed) - np.log(fitted))[out])
    return float(np.mean(np.concatenate(off) ** 2))


def _parts(observed: Array, leave: str) -> Iterator[NDArray[np.bool_]]:
    """What is left out at a time, as masks (nL, nM) of sizes with an error."""
    there = ~np.isnan(observed)
    depth, width = np.indices(observed.shape)
    label = {"size": depth * observed.shape[1] + width, "depth": depth, "width": width}[leave]
    for each in np.unique(label[there]):
        yield (label == each) & there
