"""Loss and separation property along s, from starts with and without the property at one depth.

Theorems 6.1 and 6.2 of Ding, Chen, Li and Wright (arXiv:2110.02926): if the flow converges, the block is homogeneous,
one depth t0 has the property at the start and dE/drho of the limit is regular in Sard's sense, the limit has E = 0.
They hold for infinitely many layers and particles and assume convergence, which no run can establish; measured here are
E of a finite network and whether it is stationary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.model.blocks import GaussianMatrix
from wgflow.model.problem import Problem
from wgflow.report.gradient_flow_check import unexplained_by_halving
from wgflow.report.member_selection import evenly_spaced, undiverged_members
from wgflow.report.series_change import FALLS, change
from wgflow.stats.limit_admissibility import limit_admissible
from wgflow.study.schema import Member
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.systems.residual import law_of_start
from wgflow.theory.admissibility import radius
from wgflow.theory.assumption import DING, Assumption, Condition, listed, verdict_of
from wgflow.theory.critical_values import critical_values
from wgflow.theory.homogeneity import homogeneity
from wgflow.theory.one_signed_floor import one_signed_floor
from wgflow.theory.radial_limit import radial_limit
from wgflow.theory.reference_laws import InitialLaw
from wgflow.theory.separation import (
    Kind,
    Separation,
    SeparationEstimator,
    at_depth,
    kind,
    separation,
    separation_of_law,
)
from wgflow.theory.universality import universal_kernel
from wgflow.trajectory import Trajectory

ZERO = 1e-3  # of the loss without blocks: an end below it that still falls counts as zero
RESTING = 0.1  # -d log E / d log s below which E is stationary
OF_THE_LAW = ("full", "one_layer")  # starts whose particles at t0 are draws of the law
_LACK = {  # other starts: what their support at t0 is, around which a path goes
    "point": "one point",
    "origin": "the point 0",
    "one_sided": "a cone theta_[1] > |theta_[2]|, passed at |theta_[2]| > r0, or the plane where a term is 0",
}
STARTS = (*OF_THE_LAW, *_LACK)
_MEASURED = 25  # frames at which separation at t0 is measured


class Run(NamedTuple):
    """A run along its frames.

    Attributes
    ----------
    block, support, seed, kind : str
        Activation and, unless it is ridge, block; kind of start, and its seed; homogeneity that a theorem covers.
    t0 : float
        Depth at which the property is looked for.
    separates : Assumption
        The separation property of the start's support at t0, in closed form.
    s, energy : ndarray (F,)
        Flow time and loss.
    rate : float
        -d log E / d log s = s (dissipation) / E at the end; near 0 where E is stationary.
    empty, floor : float
        E of the network without blocks, and least E while all blocks push one way, nan where no bound is known.
    one_sided : ndarray (F,), bool
        Whether all a have one sign, in all layers, or one term of gaussian_matrix is 0; False for other blocks.
    at, separation : ndarray (A,), list of Separation
        Flow times at which separation at t0 was measured, and what it was, with r0 of the start plus the displacement
        of theta_[1] since.
    unexplained : float
        Largest share of the change in E that dissipation does not explain, over stretches in which E halves; NaN if
        unknown.
    """

    block: str
    support: str
    seed: str
    kind: Kind
    t0: float
    separates: Assumption
    s: Array
    energy: Array
    rate: float
    empty: float
    floor: float
    one_sided: Array
    at: Array
    separation: list[Separation]
    unexplained: float = float("nan")

    @property
    def separated(self) -> bool:
        """Whether the support of the start at t0 has the property, or nothing refutes it, in closed form."""
        return self.separates.verdict != "fail"

    @property
    def falls(self) -> bool:
        """Whether the loss fell, still falls in its last frame, and by its dissipation faster than s^-0.1."""
        fell = change(self.s, self.energy).kind == FALLS
        return bool(fell and self.energy[-1] < self.energy[-2] and self.rate > RESTING)

    @property
    def zero(self) -> bool:
        """Whether the loss ended below :data:`ZERO` of the network without blocks and is not stationary there."""
        return bool(self.energy[-1] <= ZERO * self.empty and (self.rate > RESTING or self.energy[-1] == 0))

    @property
    def on_floor(self) -> bool:
        """Whether the loss ended within 1% above the floor of blocks of one sign."""
        return bool(self.floor <= self.energy[-1] <= 1.01 * self.floor)


def runs(work: Workspace) -> list[Run]:
    """Members that have frames and did not diverge; raises InputError if there are none, or a start is unknown here."""
    estimators: dict[tuple[str, int], SeparationEstimator] = {}
    return [_run(file, estimators) for file in undiverged_members(work)]


def assumptions(work: Workspace, starts: int = 24) -> dict[str, list[Assumption]]:
    """Checks of the theorems' assumptions for each block, on the first run whose start at t0 is the law's.

    Homogeneity, with growth and smoothness, and the universal kernel of the problem; separation of the law, and what
    the particles at t0 say of it; at
    the end, which stands for the limit of the flow, the Sard proxy (Theorem 6.1's form of it, for both kinds) and the
    limit of H_r (Theorem 6.2). That the flow converges is not among them.
    """
    panel: dict[str, list[Assumption]] = {}
    for file in undiverged_members(work):
        with Trajectory(file.path) as trajectory:
            energy = trajectory.energy()
            name, member = _block(energy.problem), Member.of(trajectory.parameters["study"])
            support, t0, law = _start(member, energy.problem)
            if name not in panel and support in OF_THE_LAW:
                panel[name] = [
                    homogeneity(energy.problem),
                    universal_kernel(energy.problem, law),
                    separation_of_law(law),
                    separation(energy, trajectory[0].particles, t0, law),
                    radius(energy.problem, trajectory[0].particles, law),
                    limit_admissible(law, member.layers, member.per_layer, member.particles.coupling),
                    critical_values(energy, trajectory[-1].particles, t0, starts),
                ]
                if kind(energy.problem) != "2-homogeneous":
                    panel[name].append(radial_limit(energy, trajectory[-1].particles, t0))
    return panel


def rows(found: Sequence[Run]) -> list[Spec]:
    """Start and end of every member, as plain JSON rows."""
    return [
        {
            "block": run.block, "kind": run.kind, "support": run.support, "seed": run.seed, "t0": run.t0,
            "separated": run.separated, "energy_start": float(run.energy[0]), "energy_end": float(run.energy[-1]),
            "energy_empty": run.empty, "zero": run.zero, "rate_end": run.rate, "floor": run.floor,
            "one_sided_start": bool(run.one_sided[0]), "one_sided_end": bool(run.one_sided[-1]),
            "unexplained_by_halving": run.unexplained,
        }
        | {
            f"{name}_{when}": getattr(run.separation[at], name).value
            for name in ("covered", "hole")
            for when, at in (("start", 0), ("end", -1))
        }
        | {
            "r0_start": _finite(run.separation[0].r0), "r0_end": _finite(run.separation[-1].r0),
            "property_start": run.separates.verdict,
            "covered_iid": run.separation[0].covered.iid, "hole_iid": run.separation[0].hole.iid,
            "verdict_start": run.separation[0].verdict, "verdict_end": run.separation[-1].verdict,
        }
        for run in found
    ]  # fmt: skip


def _finite(number: float) -> float:
    return number if np.isfinite(number) else float("nan")


def assumption_rows(panel: dict[str, list[Assumption]]) -> list[Spec]:
    """Verdicts on the assumptions, as plain JSON rows."""
    return [
        {"block": block, "name": line.name, "verdict": line.verdict, "number": line.number, "sentence": line.sentence}
        for block, lines in panel.items()
        for line in lines
    ]


def _run(file: MemberFile, estimators: dict[tuple[str, int], SeparationEstimator]) -> Run:
    with Trajectory(file.path) as trajectory:
        energy = trajectory.energy()
        problem = energy.problem
        support, t0, law = _start(Member.of(trajectory.parameters["study"]), problem)
        if support not in STARTS:
            raise InputError(f"particles.support: expected one of {', '.join(STARTS)}, got {support}")
        frames = [trajectory[k] for k in evenly_spaced(len(trajectory), _MEASURED)]
        clouds = [frame.theta[at_depth(energy.depth, frame.particles, t0)] for frame in frames]
        key = (_block(problem), len(clouds[0]))
        if key not in estimators:
            estimators[key] = SeparationEstimator(problem, len(clouds[0]), law)
        s, loss, dissipation = (trajectory.series(name) for name in ("s", "energy", "dissipation"))
        return Run(
            key[0],
            support,
            str(file.values.get("seed", "")),
            estimators[key].kind,
            t0,
            separation_of_law(law) if support in OF_THE_LAW else _lacks(support),
            s,
            loss,
            float(s[-1] * dissipation[-1] / loss[-1]) if loss[-1] > 0 else 0.0,
            float(energy(frames[0].particles.moved(np.zeros_like(frames[0].theta), frames[0].tau))),
            _floor(problem),
            np.array([_one_sided(problem, frame.theta) for frame in trajectory]),
            np.array([frame.s for frame in frames]),
            [estimators[key].measure(cloud, estimators[key].moved(clouds[0], cloud)) for cloud in clouds],
            unexplained_by_halving(trajectory),
        )


def _start(member: Member, problem: Problem) -> tuple[str, float, InitialLaw]:
    """Kind of start, t0, and the law of a start with full support."""
    start = member.particles
    return start.support, 0.5 if start.t0 is None else float(start.t0), law_of_start(problem, member)


def _lacks(support: str) -> Assumption:
    """Separation property of the starts that lack it."""
    condition = Condition("the start separates (Theorems 6.1 and 6.2)", "refuted", f"its support is {_LACK[support]}")
    verdict, said = verdict_of([condition]), listed([condition])
    return Assumption("separation of the start", verdict, 0.0, said, DING, (condition,))


def _block(problem: Problem) -> str:
    name, activation = problem.block.name, problem.activation.name
    return activation if name == "ridge" else f"{name} with {activation}"


def _floor(problem: Problem) -> float:
    try:
        return one_signed_floor(problem)
    except InputError:  # no bound is known for this problem
        return float("nan")


def _one_sided(problem: Problem, theta: Array) -> bool:
    if isinstance(problem.block, GaussianMatrix) and problem.block.signed:
        return any(not half.any() for half in np.split(theta, 2, axis=1))
    if "a" not in problem.groups:
        return False
    a = theta[:, problem.groups["a"]]
    return bool((a >= 0).all() or (a <= 0).all())
