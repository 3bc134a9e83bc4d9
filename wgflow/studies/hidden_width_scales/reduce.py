"""Effect of the scale of the output layers on deep residual networks: Chizat's experiment on D and alpha.

In the blocks of :mod:`wgflow.studies.hidden_width.reduce` the output layers start as v ~ alpha sqrt(D) N(0, I), and u
moves by min(1, 1/alpha**2) of its velocity, so that alpha plays the part of the residual scale (arXiv:2509.10167). With
w = u / D displacements of u are D times those of w; the paper's loss, a mean over outputs, is E / D.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.studies.hidden_width.reduce import Run, read_runs
from wgflow.study import formulas
from wgflow.study.workspace import Workspace

_INPUTS = 1  # index of w among the groups a, w, b of a ridge block


class Scale(NamedTuple):
    """Networks of one width of state, by the scale of their output layers.

    Attributes
    ----------
    dimension, blocks : int
        D, and units of the whole network, L M.
    alpha : ndarray (n,)
        Standard deviation of the entries of v over sqrt(D), increasing: the scale of the residual blocks.
    deviation : ndarray (n,)
        Entrywise standard deviation of the outputs across repeats, at the end: the root of the mean over samples and
        outputs of the variance.
    displacement : ndarray (n,)
        Root mean square over units, entries and repeats of u - u(0), at the end; its initial size is sqrt(D).
    s : ndarray (F,)
        Flow time of each frame.
    loss : ndarray (n, F)
        Mean over samples, outputs and repeats of the squared error, 2 E / D.
    """

    dimension: int
    blocks: int
    alpha: Array
    deviation: Array
    displacement: Array
    s: Array
    loss: Array

    @property
    def controlled(self) -> NDArray[np.bool_]:
        """Where alpha < sqrt(L M / D), (n,): beyond, the outputs' fluctuation at the start is not small."""
        return np.asarray(self.alpha < np.sqrt(self.blocks / self.dimension), bool)


class Guide(NamedTuple):
    """Reference lines fitted by least squares to all controlled networks.

    Attributes
    ----------
    constant, flat, slope : float
        deviation = (constant + (flat + slope alpha) sqrt(D)) / sqrt(L M), the form of the paper's own lines; relative
        errors count, and none of the three is negative.
    travel : float
        displacement = travel min(1, 1/alpha): geometric mean over the networks.
    """

    constant: float
    flat: float
    slope: float
    travel: float

    def deviation(self, alpha: Array, dimension: int, blocks: int) -> Array:
        """Standard deviation of the outputs by this line, at alpha (n,)."""
        return np.asarray((self.constant + (self.flat + self.slope * alpha) * dimension**0.5) / blocks**0.5)

    def displacement(self, alpha: Array) -> Array:
        """Root mean square displacement of u by this line, at alpha (n,)."""
        return np.asarray(self.travel * np.minimum(1.0, 1.0 / alpha))


def scales(work: Workspace) -> list[Scale]:
    """Statistics for each D and alpha; raises InputError if no network has two repeats that reached the end."""
    repeats: dict[tuple[int, int, float], list[Run]] = {}
    for _, run in read_runs(work):
        repeats.setdefault(_place(run), []).append(run)
    networks: dict[tuple[int, int], dict[float, list[Run]]] = {}
    for (dimension, blocks, alpha), runs in sorted(repeats.items()):
        if len(runs) > 1:
            networks.setdefault((dimension, blocks), {})[alpha] = runs
    if not networks:
        raise InputError("expected two repeats of a network that reach the end, got none; give the grid several seeds")
    return [_scale(*sizes, of_alpha) for sizes, of_alpha in networks.items()]


def guide(found: Sequence[Scale]) -> Guide:
    """Fit the lines to networks of all D."""
    terms, travel = [], []
    for scale in found:
        kept = scale.controlled & (scale.deviation > 0)
        alpha, root = scale.alpha[kept], np.full(kept.sum(), scale.dimension**0.5)
        share = scale.deviation[kept] * scale.blocks**0.5
        terms.append(np.stack([np.ones(len(root)), root, root * alpha], axis=1) / share[:, None])
        moved = scale.controlled & (scale.displacement > 0)
        travel.append(np.log(scale.displacement[moved] * np.maximum(1.0, scale.alpha[moved])))
    design, logs = np.concatenate(terms), np.concatenate(travel)
    if not len(design) or not len(logs):
        return Guide(np.nan, np.nan, np.nan, np.nan)
    constant, flat, slope = nnls(design, np.ones(len(design)))[0]
    return Guide(float(constant), float(flat), float(slope), float(np.exp(logs.mean())))


def rows(found: Sequence[Scale]) -> Iterator[Spec]:
    """Spread, displacement and loss of every D and alpha, as plain JSON rows."""
    for scale in found:
        for k, alpha in enumerate(scale.alpha):
            yield {
                "D": scale.dimension, "LM": scale.blocks, "alpha": float(alpha),
                "controlled": bool(scale.controlled[k]), "output_deviation": float(scale.deviation[k]),
                "displacement": float(scale.displacement[k]),
                "displacement_over_initial": float(scale.displacement[k] / scale.dimension**0.5),
                "loss_start": float(scale.loss[k, 0]), "loss_end": float(scale.loss[k, -1]),
            }  # fmt: skip


def _place(run: Run) -> tuple[int, int, float]:
    """D, L M and alpha of a network."""
    samples, dimension = run.outputs.shape
    layers, blocks = run.member.layers, run.member.count
    sizes = (dimension, dimension, samples, blocks, layers)
    names = dict(zip(formulas.LETTERS, map(float, sizes), strict=True))
    deviation = formulas.number(run.member.particles.scale.get("a", 1.0), names, "particles.scale.a")
    return dimension, blocks, float(f"{deviation / dimension**0.5:.12g}")  # the same alpha under every D


def _scale(dimension: int, blocks: int, networks: Mapping[float, Sequence[Run]]) -> Scale:
    """Measures of the networks of one size, given by alpha, increasing."""
    deviation, displacement, loss = [], [], []
    for runs in networks.values():
        deviation.append(np.sqrt(np.stack([run.outputs for run in runs]).var(axis=0, ddof=1).mean()))
        displacement.append(np.sqrt(np.mean(np.array([run.displacement[_INPUTS] for run in runs]) ** 2)))
        loss.append(np.mean([run.energy for run in runs], axis=0))
    s = next(iter(networks.values()))[0].s
    moved, squares = dimension * np.array(displacement), 2.0 / dimension * np.array(loss)
    return Scale(dimension, blocks, np.array(list(networks)), np.array(deviation), moved, s, squares)
