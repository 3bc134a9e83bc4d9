"""Cross-validation of scaling laws: which law best predicts errors at sizes left out of the fit.

One size (L, M_l) is left out at a time, or a whole depth or width, which tests interpolation and extrapolation to other
depths or widths.
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
    """Laws ranked by their error at sizes left out.

    Attributes
    ----------
    laws : tuple of str
        Best first.
    score : ndarray (n,)
        Mean squared error of the predicted log rms, in that order.
    behind : tuple of Interval
        Score minus that of the best law, with a 95% interval of the paired difference; 0 for the best law.
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
        return all(gap.low > 0 for gap in self.behind[1:])


def cross_validate(
    squares: Array, sizes: Sizes, laws: Sequence[str] = ("path", "independent"), leave: str = "size"
) -> CrossValidation:
    """Rank laws by how well they predict sizes left out.

    Parameters
    ----------
    squares : ndarray (S, nL, nM)
        As for :func:`wgflow.stats.fit.fit_law`.
    sizes : Sizes
        L, M_l and the reference.
    laws : sequence of str, optional
        At least two keys of :data:`wgflow.stats.scaling_laws.LAWS`.
    leave : str, optional
        ``size``, ``depth`` (all widths of one L) or ``width``.

    Returns
    -------
    Choice
        Intervals are value +- t se with the jackknife standard error over whole seeds (far fewer fits than a bootstrap)
        and Student's t with S - 1 degrees of freedom; NaN below 4 seeds. They cover the variation between seeds on this
        grid, not that between grids.

    Raises
    ------
    InputError
        If a law or ``leave`` is unknown, or too few sizes remain to fit a law.
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
    half_width = np.full(len(score), np.nan)
    if seeds >= MIN_SEEDS:
        jackknife = cell_rms(squares, 1.0 - np.eye(seeds))
        scores = np.array([[_score(rms, sizes, law, leave) for law in chosen] for rms in jackknife])
        scores -= scores[:, order[:1]]
        half_width = student_t(seeds) * np.sqrt((seeds - 1) * scores.var(axis=0))
    behind = (Interval(float(gap[k]), float(gap[k] - half_width[k]), float(gap[k] + half_width[k])) for k in order)
    return CrossValidation(tuple(laws[k] for k in order), score[order], tuple(behind), leave)


def _score(observed: Array, sizes: Sizes, law: Law, leave: str) -> float:
    """Mean squared error of the predicted log rms at sizes left out."""
    start, errors = fit_parameters(observed, sizes, law), []
    for out in _parts(observed, leave):
        rest = np.where(out, np.nan, observed)
        check_identifiable(rest, law)
        fitted = predict(fit_parameters(rest, sizes, law, start), sizes, law)
        errors.append((np.log(observed) - np.log(fitted))[out])
    return float(np.mean(np.concatenate(errors) ** 2))


def _parts(observed: Array, leave: str) -> Iterator[NDArray[np.bool_]]:
    """Masks (nL, nM) of the sizes left out at a time."""
    present = ~np.isnan(observed)
    depth, width = np.indices(observed.shape)
    label = {"size": depth * observed.shape[1] + width, "depth": depth, "width": width}[leave]
    for part in np.unique(label[present]):
        yield (label == part) & present
