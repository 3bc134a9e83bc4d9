"""The ensemble expansion of a study's networks along training, averaged over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.types import Array, Frame, Spec
from wgflow.energy import Energy
from wgflow.report.member_selection import evenly_spaced, undiverged_members
from wgflow.study.labels import short_names, word
from wgflow.study.workspace import Workspace
from wgflow.theory.ablation import deletion, path_lengths, permutation
from wgflow.theory.expansion import ALPHAS, ORDERS, gradient_similarity, remainders
from wgflow.trajectory import Trajectory

SCALES = (1.0, 0.7, *ALPHAS)  # block scales drawn; slopes are fitted over those of ALPHAS
_QUERIES = 64  # particles whose gradients are compared at most
DEPTHS = np.linspace(0.0, 1.0, 9)  # of the comparison
SWAPS = (1, 2, 4, 8, 16, 32)
_REPEATS = 32  # orders for each number of swaps
_SEED = 0  # of the random orders
_FRAMES = 9  # frames of a member at most


class Measured(NamedTuple):
    """One frame of a member, or the mean over members.

    Attributes
    ----------
    s, energy : float
        Flow time and E.
    left : ndarray (4, A)
        Remainders after orders 0 to 3 at the block scales ``SCALES``, relative to the outputs (root mean squares).
    left_without : ndarray (A,)
        After order 3 without its Hessian term.
    slope, slope_without : ndarray (4,), float
        Their exponents over ``ALPHAS``.
    cosine : ndarray (2, 9)
        Deep against shallow gradients at the particles, at depths 0 to 1; with the shallow residual, with the deep one.
    share : ndarray (n + 1,)
        Of paths of length 0 to n in the gradient at the input.
    deleted : ndarray (L,)
        E without one layer over E.
    kendall, permuted : ndarray (6,)
        Kendall's tau of orders after 1 to 32 swaps, and E over that of the own order; means over orders.
    """

    s: float
    energy: float
    left: Array
    left_without: Array
    slope: Array
    slope_without: float
    cosine: Array
    share: Array
    deleted: Array
    kendall: Array
    permuted: Array


class Group(NamedTuple):
    """Members that differ only in their seed.

    Attributes
    ----------
    label : str
        What they have in common.
    frames : list of Measured
        Means over members along s.
    worst : ndarray (F, S)
        For each frame and member, E without the layer whose deletion raises it most, over E. Means over members cannot
        give it: the largest of the means over layers is at most the mean of the largest.
    """

    label: str
    frames: list[Measured]
    worst: Array

    @property
    def members(self) -> int:
        """How many there are."""
        return int(self.worst.shape[1])


def groups(work: Workspace) -> list[Group]:
    """Measure up to 9 frames of each of a run's members, start and end among them.

    Of a group, the members that recorded most frames, of those that did not diverge.

    Raises
    ------
    InputError
        If no member has a frame and did not diverge, a network has a single layer, or a file lacks its samples.
    """
    found: dict[str, list[tuple[int, list[Measured]]]] = {}
    for file in undiverged_members(work):
        names = short_names([key for key in file.values if key != "seed"])
        label = ", ".join(f"{name} = {word(file.values[key])}" for key, name in names.items())
        with Trajectory(file.path) as trajectory:
            energy = trajectory.energy()
            frames = [measured(energy, trajectory[number]) for number in evenly_spaced(len(trajectory), _FRAMES)]
            found.setdefault(label, []).append((len(trajectory), frames))
    return [_mean(label, members) for label, members in found.items()]


def measured(energy: Energy, frame: Frame) -> Measured:
    """Expansion, gradients and ablations at one frame."""
    rho = frame.particles
    drawn, fitted = remainders(energy, rho, SCALES), remainders(energy, rho, ALPHAS)
    size = np.sqrt(np.mean(energy.predict(rho, energy.problem.x) ** 2))
    queries = rho.theta[:: -(-len(rho) // _QUERIES)]
    gone = deletion(energy, rho)
    mixed = permutation(energy, rho, list(SWAPS), _REPEATS, _SEED)
    return Measured(
        frame.s,
        frame.energy,
        drawn.size / size,
        drawn.without_hessian / size,
        fitted.slope,
        fitted.slope_without,
        gradient_similarity(energy, rho, queries, DEPTHS).cosine,
        path_lengths(energy, rho).share,
        gone.energy / gone.base,
        mixed.kendall.reshape(-1, _REPEATS).mean(axis=1),
        mixed.energy.reshape(-1, _REPEATS).mean(axis=1) / mixed.base,
    )


def _mean(label: str, members: list[tuple[int, list[Measured]]]) -> Group:
    most = max(count for count, _ in members)
    whole = [frames for count, frames in members if count == most]
    means = [Measured(*(np.mean(part, axis=0) for part in zip(*at, strict=True))) for at in zip(*whole, strict=True)]
    worst = np.array([[frame.deleted.max() for frame in at] for at in zip(*whole, strict=True)])
    return Group(label, means, worst)


def rows(found: Sequence[Group]) -> Iterator[Spec]:
    """Plain JSON, a row for each group and frame.

    Slopes and what orders 1 to 3 leave of the outputs at alpha = 1; the mean cosine along depth with the deep residual;
    E after the deletion of the layer that raises it most, of the member with the smallest and the largest such rise,
    and that by the most swaps, over E.
    """
    for group in found:
        for frame, worst in zip(group.frames, group.worst, strict=True):
            yield {
                "members": group.label,
                "s": float(frame.s),
                "E": float(frame.energy),
                **{f"slope {order}": float(frame.slope[order]) for order in range(1, ORDERS)},
                **{f"left {order}": float(frame.left[order, 0]) for order in range(1, ORDERS)},
                "cosine": float(frame.cosine[1].mean()),
                "deleted least": float(worst.min()),
                "deleted most": float(worst.max()),
                "permuted": float(frame.permuted[-1]),
            }
