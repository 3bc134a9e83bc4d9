"""Output errors of networks over depth and width, with the law predicted for them: Chizat's first experiment.

The Hidden Width of Deep ResNets (arXiv:2509.10167) has blocks (1/(L M)) sum_m v_m tanh(u_m . h / D) with M units a
layer, no embedding and no readout, and u, v ~ sqrt(D) N(0, I) independent in all layers; here a = v and w = u / D.

The constants of the law depend on the data, which are drawn at random as well. With several draws of the data a row of
squared errors is one draw, averaged over its initialisations, so that resampling rows is the bootstrap over clusters
(Davison and Hinkley 1997, section 3.8): its intervals cover draws of the data and of initial weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import finished_members
from wgflow.stats.fit import CrossValidation, LawFit, cross_validate, fit_law, fit_point
from wgflow.stats.scaling_laws import Sizes, tabulate
from wgflow.study.schema import Member
from wgflow.study.workspace import Workspace

HAND_FIT = (0.22, 0.15)  # c1 and c2 of the lines that the paper's code draws, set by hand for its own data


class Run(NamedTuple):
    """A network that reached its end.

    Attributes
    ----------
    member : Member
        Its tables.
    outputs : ndarray (M, K)
        Outputs at the end.
    displacement : ndarray (G,)
        Displacement of each parameter group at the end; empty if not recorded.
    s, energy : ndarray (F,)
        Flow time and E of each frame.
    """

    member: Member
    outputs: Array
    displacement: Array
    s: Array
    energy: Array


class Errors(NamedTuple):
    """Errors of the outputs after the last step, by size.

    Attributes
    ----------
    sizes : Sizes
        L and M of the networks, those of the reference, and D.
    squares : ndarray (S, nL, nM)
        Mean over samples and outputs of (h - h_ref)**2. A row is a draw of the data, averaged over initialisations, or
        an initialisation if there is one draw of the data alone; NaN where no run reached the end.
    data, initialisations : int
        Draws of the data, and runs of a size at most for each.
    single : ndarray (data, 2)
        c1 and c2 fitted to each draw of the data by itself; NaN where too few of its networks reached the end.
    s : float
        Flow time at the end; the number of steps where steps are 1 long.
    letter : LawFit
        c1 sqrt(D) / sqrt(L M) + c2 / L, the paper's law; c1 is the fit's ``width``, c2 its ``depth``.
    finite : LawFit
        The same with the error of a reference of finite size: 1/L - 1/L_ref and (1/(L M) + 1/(L_ref M_ref))**(1/2).
    squared : LawFit
        ((c1 sqrt(D) / sqrt(L M))**2 + (c2 / L)**2)**(1/2), what a bias and an independent fluctuation of these sizes
        give (derived; the paper's sum bounds it); ``width`` is c1 sqrt(D).
    deeper : LawFit or None
        As ``letter`` without the smallest L, which the paper's figures leave out; None if two depths are all there are.
    choice : CrossValidation
        The two forms, ``additive`` and ``independent``, by how they predict sizes left out of the fit.
    """

    sizes: Sizes
    squares: Array
    data: int
    initialisations: int
    single: Array
    s: float
    letter: LawFit
    finite: LawFit
    squared: LawFit
    deeper: LawFit | None
    choice: CrossValidation

    def law(self, depth: Array, width: Array) -> Array:
        """The paper's law with the fitted constants, at L and M of equal shape."""
        c1, c2 = self.letter.width.value, self.letter.depth.value
        return np.asarray(c1 * np.sqrt(self.sizes.dimension / (depth * width)) + c2 / depth)

    def by_hand(self, depth: Array, width: Array) -> Array:
        """The paper's law with the constants of its code, at L and M of equal shape."""
        return np.asarray(HAND_FIT[0] * np.sqrt(self.sizes.dimension / (depth * width)) + HAND_FIT[1] / depth)

    def in_squares(self, depth: Array, width: Array) -> Array:
        """The law of ``squared`` with its constants, at L and M of equal shape."""
        return np.asarray(np.hypot(self.squared.width.value / np.sqrt(depth * width), self.squared.depth.value / depth))


def read_runs(work: Workspace) -> Iterator[tuple[bool, Run]]:
    """Members that reached the end, and whether each is a reference."""
    for file, member, trajectory in finished_members(work):
        moved = trajectory.series("displacement")[-1] if "displacement" in trajectory.observables else np.empty(0)
        outputs, s, energy = (trajectory.series(name) for name in ("outputs", "s", "energy"))
        yield file.reference, Run(member, outputs[-1], moved, s, energy)


def errors(work: Workspace) -> Errors:
    """Errors with respect to the reference, and fits; raises InputError if too few networks reached the end."""
    runs = list(read_runs(work))
    references = {_data_draw(run): run for reference, run in runs if reference}
    fitted = [run for reference, run in runs if not reference and _data_draw(run) in references]
    if not fitted:
        raise InputError("expected networks and a reference of their data that reach the end, got no such ones")
    limit = references[_data_draw(fitted[0])]
    gaps: dict[int, dict[tuple[int, int, int], float]] = {}  # by data, then by initialisation, L and M
    for run in fitted:
        gap = run.outputs - references[_data_draw(run)].outputs
        gaps.setdefault(_data_draw(run), {})[run.member.seed, *run.member.shape] = float(np.mean(gap**2))
    depths, widths, squares = tabulate(_rows_of(gaps))
    dimension = limit.outputs.shape[1]
    letter = Sizes(depths, widths, None, nested=False, dimension=dimension)
    finite = Sizes(depths, widths, limit.member.shape, nested=False, dimension=dimension)
    return Errors(
        sizes=finite,
        squares=squares,
        data=len(gaps),
        initialisations=max(len({seed for seed, *_ in of_data}) for of_data in gaps.values()),
        single=np.array([_constants(of_data, dimension) for _, of_data in sorted(gaps.items())]),
        s=float(limit.s[-1]),
        letter=fit_law(squares, letter, "additive", log_intervals=True),
        finite=fit_law(squares, finite, "additive", log_intervals=True),
        squared=fit_law(squares, letter, "independent", log_intervals=True),
        deeper=_without_the_first(squares, letter) if len(depths) > 2 else None,
        choice=cross_validate(squares, letter, ("additive", "independent")),
    )


def _without_the_first(squares: Array, sizes: Sizes) -> LawFit:
    """The paper's law fitted without the smallest L."""
    return fit_law(squares[:, 1:], replace(sizes, depths=sizes.depths[1:]), "additive", log_intervals=True)


def _data_draw(run: Run) -> int:
    """Seed of the data of a network."""
    return int(getattr(getattr(run.member, "problem", None), "seed", 0))


def _rows_of(gaps: Mapping[int, Mapping[tuple[int, int, int], float]]) -> Mapping[tuple[int, int, int], float]:
    """Squared errors by row, L and M: of every draw of the data, or of every initialisation of the only draw."""
    if len(gaps) == 1:
        return next(iter(gaps.values()))
    found: dict[tuple[int, int, int], list[float]] = {}
    for data, of_data in gaps.items():
        for (_, depth, width), square in of_data.items():
            found.setdefault((data, depth, width), []).append(square)
    return {place: float(np.mean(squares)) for place, squares in found.items()}


def _constants(of_data: Mapping[tuple[int, int, int], float], dimension: int) -> tuple[float, float]:
    """c1 and c2 of the paper's law at the networks of one draw of the data."""
    depths, widths, squares = tabulate(of_data)
    try:
        depth, width = fit_point(squares, Sizes(depths, widths, None, nested=False, dimension=dimension), "additive")
    except InputError:
        return np.nan, np.nan
    return width, depth


def error_rows(found: Errors) -> Iterator[Spec]:
    """Rms error and the laws' predictions at each size, as plain JSON rows."""
    for i, layers in enumerate(found.sizes.depths):
        for j, width in enumerate(found.sizes.widths):
            yield {
                "L": layers, "M": width, "draws": int(np.isfinite(found.squares[:, i, j]).sum()),
                "rms_error": float(found.letter.rms[i, j]), "law": float(found.letter.predicted[i, j]),
                "law_finite_reference": float(found.finite.predicted[i, j]),
                "law_squares": float(found.squared.predicted[i, j]),
            }  # fmt: skip


def data_rows(found: Errors) -> Iterator[Spec]:
    """Constants of the law at every draw of the data, and those of the paper's code, as plain JSON rows."""
    for number, (c1, c2) in enumerate(found.single):
        yield {"data": f"draw {number}", "c1": float(c1), "c2": float(c2)}
    yield {"data": "the paper's, by hand", "c1": HAND_FIT[0], "c2": HAND_FIT[1]}


def law_rows(found: Errors) -> Iterator[Spec]:
    """Constants of the law with their intervals: as the paper has it, with the reference's own error, in squares."""
    score = dict(zip(found.choice.laws, found.choice.score.tolist(), strict=True))
    fits = [
        ("sum, to the letter", found.letter, 1.0, score["additive"]),
        ("sum, with a finite reference", found.finite, 1.0, None),
        ("sum of squares", found.squared, found.sizes.dimension**0.5, score["independent"]),
    ]
    if found.deeper:
        fits.insert(1, (f"sum, without L = {found.sizes.depths[0]}", found.deeper, 1.0, None))
    for name, law, root, left_out in fits:
        yield {
            "law": name, "c1": law.width.value / root, "c1_low": law.width.low / root,
            "c1_high": law.width.high / root, "c2": law.depth.value, "c2_low": law.depth.low, "c2_high": law.depth.high,
            "rms_log_residual": law.residual**0.5, "rms_log_left_out": left_out and left_out**0.5,
        }  # fmt: skip
