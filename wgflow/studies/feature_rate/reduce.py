"""Distances between gradient descent on m units and the neural feature flow.

Fang, Lee, Yang and Zhang (COLT 2021), Theorems 6 and 7 for a Res-Net: with probability 1 - delta the suprema over steps
k, units i, j and points of the distances of weights and features, and over k of that of the loss, are O(m**(-1/2) +
eta) up to logarithms when units start as the flow's particles do. Theorem 33 says so of the loss of a DNN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import finished_members
from wgflow.stats import convergence_rates as rates
from wgflow.stats.convergence_rates import Estimate, estimate
from wgflow.study.tables import NetworkTable
from wgflow.study.workspace import Workspace
from wgflow.systems.neural_feature_flow import assumptions
from wgflow.systems.neural_feature_flow.system import from_trajectory
from wgflow.trajectory import Trajectory


class Parts(NamedTuple):
    """First units of a network.

    Attributes
    ----------
    inner, alpha, beta, outer : ndarray (n, d), (n, (L - 1) N), (n, L N), (n,)
        Their v_1, their features and their v_(L+1).
    among : ndarray (L - 1, n, n)
        Weights among them, target unit first.
    """

    inner: Array
    alpha: Array
    beta: Array
    among: Array
    outer: Array


class Run(NamedTuple):
    """A network at the stated flow times.

    Attributes
    ----------
    units, step, method, start, seed, kind : int, float, str, str, int, str
        m, h, and what its study says.
    parts : list of Parts
        First units at each time.
    outputs, energy, eigenvalues : ndarray (T, N), (T,), (T,)
        Outputs, loss, and least eigenvalue of any layer's Gram matrix.
    """

    units: int
    step: float
    method: str
    start: str
    seed: int
    kind: str
    parts: list[Parts]
    outputs: Array
    energy: Array
    eigenvalues: Array


class Gaps(NamedTuple):
    """Distances to the flow at one flow time.

    Attributes
    ----------
    s : float
        Flow time.
    by_units : dict of str to Estimate
        Rms distance of gradient descent on m units to the reference's flow, against m: of the weights v_2..v_L, of the
        features alpha, of the outputs and of the loss.
    largest : dict of str to Estimate
        What Theorem 6 bounds, mean over seeds, against the m whose units are all on file: largest distance over units
        (or pairs of units), points and the times recorded up to s, of the ``weights`` v_1..v_(L+1), of the ``features``
        alpha and beta and of the ``loss``; at the start ``epsilon`` instead, Definition 5's largest difference of
        v_2..v_L over 1 + |Theta_i| + |Theta_j|.
    by_rate : dict of str to Estimate
        Rms distance of gradient descent to the flow of the same m units, against 1/h; none without such members.
    m : int
        Their m.
    eigenvalue : float
        Least eigenvalue of any layer's Gram matrix, of all networks.
    kind : str
        Of the networks.
    refuted : tuple of str
        Conditions of Assumptions 1 and 3 that these data, activations, loss and start refute.
    """

    s: float
    by_units: dict[str, Estimate]
    largest: dict[str, Estimate]
    by_rate: dict[str, Estimate]
    m: int
    eigenvalue: float
    kind: str
    refuted: tuple[str, ...] = ()


def gaps(work: Workspace) -> list[Gaps]:
    """Distances between gradient descent and the neural feature flow, at every flow time recorded.

    Raises
    ------
    InputError
        If there is no seed whose members reached the end.
    """
    found = _runs(work)
    fitted = [run for run in found if run.method == "descent" and run.start == "minimum_norm"]
    references = {run.seed: run for run in found if run.start == "ideal"}
    usual = _mode([run.step for run in fitted])
    sizes = tuple(sorted({run.units for run in fitted if run.step == usual}))
    by_size = {(run.seed, run.units): run for run in fitted if run.step == usual}
    seeds = [seed for seed in sorted(references) if all((seed, m) in by_size for m in sizes)]
    if not seeds:
        raise InputError(f"{work.folder}: expected a seed whose networks reach the end, got none")
    with Trajectory(work.trajectories()[0]) as trajectory:
        times, network = trajectory.series("s"), from_trajectory(trajectory).network
    verdicts = (assumptions.bounded_and_smooth(network), assumptions.initial_law(network, "minimum_norm"))
    refuted = tuple(
        f"{each.name} ({each.reason})" for one in verdicts for each in one.conditions if each.finding == "refuted"
    )
    flows = {(run.seed, run.units): run for run in found if run.method == "flow" and run.start != "ideal"}
    out = []
    pairs = [[(by_size[seed, m], references[seed]) for m in sizes] for seed in seeds]
    limit = references[seeds[0]].units
    complete = sum(len(run.parts[0].outer) == run.units for run, _ in pairs[0])
    whole = [row[:complete] for row in pairs]  # a supremum wants all units, of which wide networks keep the first alone
    for t, s in enumerate(times):
        by_units = _estimates(pairs, t, sizes, f"units {s!r}", limit)
        largest = _largest(whole, t, sizes[: len(whole[0])], f"largest {s!r}", limit)
        by_rate, m = _by_rate(fitted, flows, t, f"rate {s!r}") if t else ({}, 0)  # at the start there is none
        least = min(float(run.eigenvalues[t]) for run in found)
        out.append(Gaps(float(s), by_units, largest, by_rate, m, least, fitted[0].kind, refuted))
    return out


def _by_rate(
    fitted: Sequence[Run], flows: dict[tuple[int, int], Run], t: int, name: str
) -> tuple[dict[str, Estimate], int]:
    """Distances to the flow of the same units, against 1/h."""
    with_flow = [run for run in fitted if (run.seed, run.units) in flows]
    if not with_flow:
        return {}, 0
    m = _mode([run.units for run in with_flow])
    by_step = {(run.seed, run.step): run for run in with_flow if run.units == m}
    steps = sorted({step for _, step in by_step}, reverse=True)
    seeds = [seed for seed in sorted({seed for seed, _ in by_step}) if all((seed, h) in by_step for h in steps)]
    pairs = [[(by_step[seed, h], flows[seed, m]) for h in steps] for seed in seeds]
    return _estimates(pairs, t, tuple(1 / h for h in steps), name), m


def _estimates(
    pairs: list[list[tuple[Run, Run]]], t: int, sizes: Sequence[float], name: str, limit: int | None = None
) -> dict[str, Estimate]:
    """Rms distances, by quantity.

    Features and weights of ideal particles start without error for any m, so the reference needs no correction; outputs
    and loss are means over the reference's units, of which those compared are a part.
    """
    squares = {
        "weights": [[np.mean(_difference(a, b, t).among ** 2) for a, b in row] for row in pairs],
        "features": [[np.mean(_difference(a, b, t).alpha ** 2) for a, b in row] for row in pairs],
        "outputs": [[np.mean((a.outputs[t] - b.outputs[t]) ** 2) for a, b in row] for row in pairs],
        "loss": [[(a.energy[t] - b.energy[t]) ** 2 for a, b in row] for row in pairs],
    }
    out = {}
    for key, values in squares.items():
        of = limit if key in ("outputs", "loss") else None
        out[key] = estimate(sizes, len(pairs), rates.rms(np.array(values)), f"{name} {key}", of, of is not None)
    return out


def _epsilon(a: Run, ideal: Run) -> float:
    """Largest |v_l - vbar_l| over 1 + |Theta_i| + |Theta_j| among the first units at the start, l = 2..L."""
    apart = np.abs(_difference(a, ideal, 0).among)
    n = apart.shape[1]
    own = ideal.parts[0]
    size = np.sqrt(np.sum(own.inner[:n] ** 2, axis=1) + np.sum(own.alpha[:n] ** 2, axis=1))
    return float((apart / (1 + size[:, None] + size)).max())


def _difference(a: Run, b: Run, t: int) -> Parts:
    """Differences over the units that two networks have in common."""
    one, other = a.parts[t], b.parts[t]
    n = min(len(one.alpha), len(other.alpha))
    return Parts(
        one.inner[:n] - other.inner[:n],
        one.alpha[:n] - other.alpha[:n],
        one.beta[:n] - other.beta[:n],
        one.among[:, :n, :n] - other.among[:, :n, :n],
        one.outer[:n] - other.outer[:n],
    )


def _largest(
    pairs: list[list[tuple[Run, Run]]], t: int, sizes: Sequence[float], name: str, limit: int
) -> dict[str, Estimate]:
    """Largest distances up to the recorded time t, by quantity, mean over seeds; at the start epsilon_1."""
    if not sizes:
        return {}
    of: dict[str, Callable[[Run, Run], float]] = {"epsilon": _epsilon}
    if t:
        of = {quantity: partial(_supremum, quantity=quantity, t=t) for quantity in ("weights", "features", "loss")}
    out = {}
    for quantity, distance in of.items():
        values = np.array([[distance(a, b) for a, b in row] for row in pairs])
        nested = quantity == "loss"  # a mean over the reference's units, of which those compared are a part
        reference = limit if nested else None
        out[quantity] = estimate(sizes, len(pairs), rates.mean(values), f"{name} {quantity}", reference, nested)
    return out


def _supremum(a: Run, b: Run, quantity: str, t: int) -> float:
    """Largest distance of weights, features or loss over units, points and the times recorded up to t."""
    if quantity == "loss":
        return float(np.abs(a.energy[: t + 1] - b.energy[: t + 1]).max())
    apart = [_difference(a, b, k) for k in range(t + 1)]
    parts = [(d.inner, d.among, d.outer) if quantity == "weights" else (d.alpha, d.beta) for d in apart]
    return max(float(np.abs(array).max()) for arrays in parts for array in arrays)


def envelope(sizes: Sequence[float], power: float) -> float:
    """Exponent r of m**(-r) fitted to (log m)**power / sqrt(m) over sizes.

    A maximum of m Gaussians of variance 1/m has power 1/2, one of products of two Gaussians 1; Theorem 6 hides powers.
    """
    x = np.log(sizes)
    return float(-np.polyfit(x, power * np.log(x) - 0.5 * x, 1)[0])


def _runs(work: Workspace) -> list[Run]:
    """First units along s of the networks that reached the end."""
    out = []
    for _, study, trajectory in finished_members(work):
        network = trajectory.parameters["energy"]["network"]
        points, inputs = trajectory.parameters["energy"]["problem"]["data"]["x"]["shape"]
        parts = [_parts(units, inputs, points, network["layers"]) for units in trajectory.series("units")]
        table = study.network or NetworkTable()
        outputs, energy = trajectory.series("outputs")[:, :, 0], trajectory.series("energy")
        eigenvalues = trajectory.series("eigenvalues").min(axis=1)
        about = (study.count, study.flow.step, table.method, table.start, study.seed, table.kind)
        out.append(Run(*about, parts, outputs, energy, eigenvalues))
    return out


def _parts(units: Array, inputs: int, points: int, layers: int) -> Parts:
    """Parts of the observable ``units``."""
    n = len(units)
    alpha, beta, among, outer = np.split(
        units[:, inputs:], np.cumsum([points * (layers - 1), points * layers, n * (layers - 1)]), axis=1
    )
    return Parts(units[:, :inputs], alpha, beta, np.moveaxis(among.reshape(n, layers - 1, n), 1, 0), outer[:, 0])


def _mode(values: Sequence[Any]) -> Any:
    return max(sorted(set(values)), key=values.count)


def rows(found: Sequence[Gaps]) -> Iterator[Spec]:
    """Exponents as plain JSON rows: in m and in the learning rate, by quantity and flow time."""
    for each in found:
        for of, estimates in (("m", each.by_units), ("m, largest", each.largest), ("h", each.by_rate)):
            for quantity, one in estimates.items():
                yield {"s": each.s, "of": of, "quantity": quantity} | one.rate.columns
