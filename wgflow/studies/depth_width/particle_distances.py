"""Distance between the particles of finite networks and of their reference after training, depth by depth.

The particles of a sub-sample start where the reference's do, so only the flow separates them: measured by the coupled
distance, and by the conditional Wasserstein distance of the two ensembles, which ignores labels and is never larger.
Ding, Chen, Li and Wright (arXiv:2110.02926), Definition 4.1 (d1 and d2); Barboni, Peyre and Vialard
(arXiv:2403.12887) for the mean over depth.
"""

from __future__ import annotations

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.model.particles import Particles
from wgflow.report.member_selection import finished_members
from wgflow.study.schema import Member
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.theory.distances import by_depth
from wgflow.theory.regularity import moments, regularity
from wgflow.trajectory import Trajectory

_DRAWS = 2  # networks compared at each size
_SLICES = 16  # layers compared at most, evenly spaced


def particle_distances(work: Workspace) -> list[Spec]:
    """Rows of plain JSON for some networks of every size at the end, the reference first.

    Returns
    -------
    list of dict
        ``coupling``, ``layers``, ``per_layer``, ``seed``, ``part``, ``s``; ``coupled``, ``conditional`` and ``largest``
        (the coupled distance, sqrt of the mean over depth of W2**2, the largest W2 of a layer, d1; per parameter, so
        over sqrt(P)); ``largest_recorded`` and ``frames``, the largest d1 of the recorded frames, a lower bound of d2,
        the supremum over all s, and how many frames that are; ``lipschitz`` and ``holder`` along depth, ``moment``,
        ``moment_largest`` and ``radius``; distances are missing for the reference, and of a network that is no
        sub-sample of it.

    Raises
    ------
    InputError
        If a coupling has no reference with particles.
    """
    members: dict[str, list[tuple[MemberFile, Member]]] = {}
    for member, study, trajectory in finished_members(work):
        if trajectory.particles:
            members.setdefault(study.particles.coupling, []).append((member, study))
    out = []
    for coupling, listed in members.items():
        references = [each for each in listed if each[0].reference]
        if not references:
            raise InputError(f"coupling {coupling}: expected a reference with particles, got none")
        (file, study) = max(references, key=lambda each: each[1].shape)
        with Trajectory(file.path) as trajectory:
            clouds = {frame.s: frame.theta.reshape(*study.shape, -1) for frame in trajectory}
            out.append(_moments(study, trajectory))
        seen: dict[tuple[int, int], int] = {}
        for other, its in listed:
            if other.reference or seen.get(its.shape, 0) >= _DRAWS:
                continue
            seen[its.shape] = seen.get(its.shape, 0) + 1
            with Trajectory(other.path) as trajectory:
                out.append(_moments(its, trajectory) | _distances(trajectory, its, study, clouds))
    return out


def _moments(study: Member, trajectory: Trajectory) -> Spec:
    """Which network it is, with moments and regularity in depth of its particles."""
    frame, layers, table = trajectory[-1], study.layers, study.particles
    rho = frame.particles
    out: Spec = {
        "coupling": table.coupling, "layers": layers, "per_layer": study.per_layer, "seed": study.seed,
        "part": table.part, "s": frame.s,
    }  # fmt: skip
    if layers > 1:
        found = regularity(rho, layers)
        out |= {"lipschitz": found.lipschitz, "holder": None if np.isnan(found.holder) else found.holder}
    moment = moments(rho, layers)
    return out | {"moment": moment.mean, "moment_largest": moment.largest, "radius": moment.radius}


def _distances(trajectory: Trajectory, study: Member, reference: Member, clouds: dict[float, Array]) -> Spec:
    """Distances between a network's particles and the same particles in the reference, whose clouds are given by s."""
    depth, width = study.shape
    within, first = study.particles.within, study.particles.part * width
    layers, per_layer = reference.shape
    if within is None or within != layers or study.seed != reference.seed or first + width > per_layer:
        return {}
    number = ((2 * np.arange(depth) + 1) * within) // (2 * depth)  # the reference's layer, as the start is drawn
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, _SLICES)).astype(int))
    tau = np.repeat((np.arange(len(chosen)) + 0.5) / len(chosen), width)
    along = []
    for frame in trajectory:
        if frame.s not in clouds:
            continue
        one = frame.theta.reshape(depth, width, -1)[chosen]
        other = clouds[frame.s][number[chosen], first : first + width]
        scale = one.shape[2] ** -0.5  # per parameter
        a, b = (Particles(each.reshape(len(tau), -1) * scale, tau) for each in (one, other))
        along.append(by_depth(a, b, len(chosen)))
    found, coupled = along[-1], float(np.sqrt(np.mean((one - other) ** 2)))
    return {
        "coupled": coupled, "conditional": found.conditional, "largest": found.largest, "method": found.method,
        "largest_recorded": max(each.largest for each in along), "frames": len(along),
    }  # fmt: skip
