"""Output errors of networks over depth and width, with the law predicted for them: Chizat's first experiment.

The Hidden Width of Deep ResNets (arXiv:2509.10167) has blocks (1/(L M)) sum_m v_m tanh(u_m . h / D) with M units a
layer, no embedding and no readout, and u, v ~ sqrt(D) N(0, I) independent in all layers; here a = v and w = u / D.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import finished_members
from wgflow.stats.fit import CrossValidation, LawFit, cross_validate, fit_law
from wgflow.stats.scaling_laws import Sizes, tabulate
from wgflow.study.schema import Member
from wgflow.study.workspace import Workspace


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
        Mean over samples and outputs of (h - h_ref)**2, a row for each seed; NaN where a run did not reach the end.
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
    references, fitted = ([run for reference, run in runs if reference == wanted] for wanted in (True, False))
    if not references or not fitted:
        raise InputError("expected networks and a reference that reach the end, got no such one")
    limit = references[0]
    gaps = {(run.member.seed, *run.member.shape): run.outputs - limit.outputs for run in fitted}
    depths, widths, squares = tabulate({place: float(np.mean(gap**2)) for place, gap in gaps.items()})
    dimension = limit.outputs.shape[1]
    letter = Sizes(depths, widths, None, nested=False, dimension=dimension)
    finite = Sizes(depths, widths, limit.member.shape, nested=False, dimension=dimension)
    return Errors(
        sizes=finite,
        squares=squares,
        s=float(limit.s[-1]),
        letter=fit_law(squares, letter, "additive"),
        finite=fit_law(squares, finite, "additive"),
        squared=fit_law(squares, letter, "independent"),
        deeper=fit_law(squares[:, 1:], replace(letter, depths=depths[1:]), "additive") if len(depths) > 2 else None,
        choice=cross_validate(squares, letter, ("additive", "independent")),
    )


def error_rows(found: Errors) -> Iterator[Spec]:
    """Rms error and the laws' predictions at each size, as plain JSON rows."""
    for i, layers in enumerate(found.sizes.depths):
        for j, width in enumerate(found.sizes.widths):
            yield {
                "L": layers, "M": width, "seeds": int(np.isfinite(found.squares[:, i, j]).sum()),
                "rms_error": float(found.letter.rms[i, j]), "law": float(found.letter.predicted[i, j]),
                "law_finite_reference": float(found.finite.predicted[i, j]),
                "law_squares": float(found.squared.predicted[i, j]),
            }  # fmt: skip


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
