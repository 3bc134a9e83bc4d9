"""Convergence of networks as N grows: bias and fluctuation of E and of the outputs, with rates.

Members that differ only in seed, N and part of the seed's particles form a group; the study's reference
members stand for its limit. Lu, Ma, Lu, Lu and Ying (arXiv:2003.05508) leave |E(rho_N) - E(rho)| open; for mean-field
models of one layer fluctuations of order N**(-1/2) and a bias of order 1/N are known.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.energy import Energy
from wgflow.report.figure import cached
from wgflow.report.member_selection import reached_end, shared_times
from wgflow.stats.convergence_rates import Estimate, Statistic, estimate, mean, norm_of_mean, rms, without_rate
from wgflow.study.labels import code, words
from wgflow.study.schema import Member
from wgflow.study.workspace import MemberFile, Workspace
from wgflow.trajectory import Trajectory

QUANTITIES = {
    "rms_energy": "rms of E",
    "spread_energy": "spread of E",
    "bias_energy": "bias of E",
    "rms_outputs": "rms of the outputs",
    "bias_outputs": "bias of the outputs",
}
COUNT, SEED, PART = "particles.count", "seed", "particles.part"
STATED = (0.0, 0.25, 0.5, 0.75, 1.0)  # fractions of the flow time at which rates are fitted
# A bias with respect to one reference contains that reference's own fluctuation, as large and equal for all seeds.
_UNCOUPLED = "needs particles.part = [0, 1], N that double and tau = uniform"
_SAMPLES = 1024  # samples at which outputs are compared at most


class Curve(NamedTuple):
    """Loss along s for one N.

    Attributes
    ----------
    s : ndarray (F,)
        Flow time.
    energy, heldout : ndarray (S, F)
        Training and held-out loss of each member; held-out of shape (S, 0) if not recorded.
    """

    s: Array
    energy: Array
    heldout: Array


class Group(NamedTuple):
    """Members that differ only in seed, N and part.

    Attributes
    ----------
    label : str
        What they have in common, in words; empty for a study with one group.
    sizes, reference : tuple of int, int
        N, increasing, and N of the reference.
    curves : dict of int to Curve
        By N, the reference's among them.
    s, estimates : ndarray (T,), dict of str to list of Estimate
        Flow times at which rates are fitted; estimates at these times, by quantity.
    coupled : bool
        Whether the bias is the mean over two samples of N particles minus the value of their union; otherwise it is
        with respect to the reference and has no rate.
    seeds : int
        Seeds whose members all reached the end, which are those that the estimates use.
    files : list of MemberFile
        The members.
    """

    label: str
    sizes: tuple[int, ...]
    reference: int
    curves: dict[int, Curve]
    s: Array
    estimates: dict[str, list[Estimate]]
    coupled: bool
    seeds: int
    files: list[MemberFile]


class _Run(NamedTuple):
    size: int
    seed: int
    part: int
    nested: bool  # whether the parts of a seed together are the larger sample of particles
    s: Array
    energy: Array  # (F,)
    heldout: Array  # (F,), or (0,)
    outputs: Array  # (T, M K)


@cached  # three figures of one run ask for them
def groups(work: Workspace) -> list[Group]:
    """Statistics and rates by group; raises InputError if one has no reference or fewer than two shared flow times."""
    sorted_: dict[str, list[MemberFile]] = {}
    axes: dict[str, list[object]] = {}
    for member in work.members():
        rest = {key: value for key, value in member.values.items() if key not in (COUNT, SEED, PART)}
        sorted_.setdefault(code(rest), []).append(member)
        for key, value in rest.items():
            if value not in axes.setdefault(key, []):
                axes[key].append(value)
    said = {key: dict(zip(map(code, values), words(values), strict=True)) for key, values in axes.items()}
    out = []
    for rest_text, members in sorted_.items():
        label = ", ".join(said[key][code(value)] for key, value in json.loads(rest_text).items())
        out.append(_group(label, members))
    return out


def _group(label: str, files: list[MemberFile]) -> Group:
    with contextlib.ExitStack() as stack:
        opened = [(file, stack.enter_context(Trajectory(file.path))) for file in files]
        whole = [(file, t) for file, t in opened if reached_end(t)]
        stated = _stated_times([t for _, t in whole])
        energies: dict[str, Energy] = {}
        members = [(file, _member(t, stated, energies)) for file, t in whole]
    references = [run for file, run in members if file.reference]
    fitted = [run for file, run in members if not file.reference]
    if not references or not fitted:
        raise InputError(f"{label or 'study'}: expected members and a reference that reach the end, got no such one")
    sizes = tuple(sorted({run.size for run in fitted}))
    largest = max(run.size for run in references)
    reference = [run for run in references if run.size == largest]
    estimates, coupled, seeds = _estimates(label, sizes, fitted, reference, stated)
    curves = {n: _curve([run for run in fitted if run.size == n]) for n in sizes} | {largest: _curve(reference)}
    return Group(label, sizes, largest, curves, stated, estimates, coupled, seeds, [file for file, _ in members])


def _stated_times(trajectories: Sequence[Trajectory]) -> Array:
    """Flow times that all members recorded, nearest to the fractions ``STATED`` of the last."""
    if not trajectories:
        raise InputError("expected members with frames, got none; run the study first")
    times = shared_times([trajectory.series("s") for trajectory in trajectories])
    if len(times) < 2:
        raise InputError(f"expected flow times that all members recorded, got {len(times)}; did they all finish?")
    return np.unique([times[np.argmin(np.abs(times - share * times[-1]))] for share in STATED])


def _member(trajectory: Trajectory, stated: Array, energies: dict[str, Energy]) -> _Run:
    """Measurements of a member; energies are rebuilt once for every problem."""
    key = code(trajectory.parameters["energy"])
    if key not in energies:
        energies[key] = trajectory.energy()
    energy, s = energies[key], trajectory.series("s")
    frames = [trajectory[int(np.argmin(np.abs(s - time)))] for time in stated]
    study = Member.of(trajectory.parameters["study"])
    with np.errstate(all="ignore"):
        outputs = [energy.predict(frame.particles, energy.problem.x[:_SAMPLES]).ravel() for frame in frames]
    return _Run(
        size=len(frames[0].tau),
        seed=study.seed,
        part=study.particles.part,
        nested=study.particles.tau == "uniform" or study.depth.name == "layers",  # not with tau = (i + 1)/N
        s=s,
        energy=trajectory.series("energy"),
        heldout=trajectory.series("heldout") if "heldout" in trajectory.observables else np.empty(0),
        outputs=np.stack(outputs),
    )


def _curve(members: Sequence[_Run]) -> Curve:
    s = shared_times([run.s for run in members])
    at = [np.abs(run.s[:, None] - s).argmin(axis=0) for run in members]
    energy = np.stack([run.energy[rows] for run, rows in zip(members, at, strict=True)])
    heldout = [run.heldout[rows] for run, rows in zip(members, at, strict=True) if run.heldout.size]
    return Curve(s, energy, np.stack(heldout) if len(heldout) == len(members) else np.empty((len(members), 0)))


def _estimates(
    label: str, sizes: tuple[int, ...], fitted: Sequence[_Run], reference: Sequence[_Run], stated: Array
) -> tuple[dict[str, list[Estimate]], bool, int]:
    """Estimates of every quantity at every stated time, whether the bias is the coupled one, and the seeds used."""
    by_place = {(run.seed, run.size, run.part): run for run in fitted}
    parts = sorted({run.part for run in fitted})
    every = [(n, part) for n in sizes for part in parts]
    seeds = [s for s in sorted({run.seed for run in fitted}) if all((s, *place) in by_place for place in every)]
    if not seeds:
        raise InputError(f"{label or 'study'}: expected a seed whose members all reach the end, got none")
    coupled = _pairs(sizes, seeds, by_place)
    out: dict[str, list[Estimate]] = {name: [] for name in QUANTITIES}
    for t, s in enumerate(stated):
        # energy of every sample of particles and outputs, (S, n, parts) and (S, n, parts, M K)
        cloud = [[[by_place[seed, n, part] for part in parts] for n in sizes] for seed in seeds]
        energy = np.array([[[_energy_at(run, s) for run in row] for row in rows] for rows in cloud])
        outputs = np.array([[[run.outputs[t] for run in row] for row in rows] for rows in cloud])
        energy_ref = float(np.mean([_energy_at(run, s) for run in reference]))
        outputs_ref = np.mean([run.outputs[t] for run in reference], axis=0)
        of_energy, of_outputs = energy - energy_ref, outputs - outputs_ref
        if coupled:
            halved, doubled = ([sizes.index(factor * n) for n in coupled] for factor in (1, 2))
            by_size = tuple(coupled)
            gap = energy[:, halved, :2].mean(axis=2) - energy[:, doubled, 0]
            gap_outputs = outputs[:, halved, :2].mean(axis=2) - outputs[:, doubled, 0]
        else:
            by_size, gap, gap_outputs = sizes, of_energy.mean(axis=2), of_outputs.mean(axis=2)
        statistics: Mapping[str, tuple[tuple[int, ...], Statistic]] = {
            "rms_energy": (sizes, rms((of_energy**2).mean(axis=2))),
            "spread_energy": (sizes, _spread(energy)),
            "bias_energy": (by_size, mean(gap)),
            "rms_outputs": (sizes, rms((of_outputs**2).mean(axis=(2, 3)))),
            "bias_outputs": (by_size, norm_of_mean(_products(gap_outputs))),
        }
        for name, (at, statistic) in statistics.items():
            of_reference = reference[0].size * len(reference) if name.startswith("rms") else None
            found = estimate(at, len(seeds), statistic, f"{label} {name} {s!r}", of_reference)
            out[name].append(found if coupled or not name.startswith("bias") else without_rate(found, _UNCOUPLED))
    return out, bool(coupled), len(seeds)


def _pairs(sizes: Sequence[int], seeds: Sequence[int], by_place: Mapping[tuple[int, int, int], _Run]) -> list[int]:
    """N for which every seed has two samples of N particles and the sample of 2 N that starts as their union."""
    return [
        n
        for n in sizes
        if 2 * n in sizes
        and all(place in by_place for seed in seeds for place in ((seed, n, 1), (seed, 2 * n, 0)))
        and all(by_place[seed, n, 0].nested for seed in seeds)
    ]


def _energy_at(member: _Run, s: float) -> float:
    return float(member.energy[int(np.argmin(np.abs(member.s - s)))])


def _spread(energy: Array) -> Statistic:
    """Standard deviation of E, (S, n, parts), over samples of particles; needs no reference."""
    centred = energy - energy.mean(axis=(0, 2), keepdims=True)
    first, second = centred.mean(axis=2), (centred**2).mean(axis=2)
    clouds = energy.shape[0] * energy.shape[2]

    def statistic(weight: Array) -> Array:
        share = weight / weight.sum(axis=1, keepdims=True)
        variance = share @ second - (share @ first) ** 2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0) * clouds / max(clouds - 1, 1)))

    return statistic


def _products(vectors: Array) -> Array:
    """v_s . v_t / length for vectors (S, n, length), (n, S, S)."""
    return np.asarray(np.einsum("snm,tnm->nst", vectors, vectors, optimize=True) / vectors.shape[2])


def rows(found: Sequence[Group]) -> Iterator[Spec]:
    """Rates as plain JSON rows: group, quantity, s, exponent with interval, or the reason for none."""
    for group in found:
        for name, estimates in group.estimates.items():
            for s, rate in zip(group.s, (one.rate for one in estimates), strict=True):
                least, most = (rate.sizes[0], rate.sizes[-1]) if rate.sizes else (None, None)
                yield {
                    "group": group.label, "quantity": name, "s": float(s), "exponent": rate.exponent, "low": rate.low,
                    "high": rate.high, "constant": rate.constant, "seeds": group.seeds, "N_least": least,
                    "N_most": most, "no_rate": rate.reason,
                }  # fmt: skip
