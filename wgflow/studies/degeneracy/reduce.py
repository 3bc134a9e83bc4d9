"""Spread of the units of a layer against width.

Fang, Lee, Yang and Zhang (COLT 2021), Proposition 1: from weights of variance O(1) the units of a middle layer become
one as m grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.report.member_selection import finished_members
from wgflow.stats import convergence_rates as rates
from wgflow.stats.convergence_rates import Estimate, estimate
from wgflow.study.tables import NetworkTable
from wgflow.study.workspace import Workspace


class Spread(NamedTuple):
    """Spread of units against width.

    Attributes
    ----------
    kind, start : str
        The networks'.
    units : tuple of int
        m.
    first, last : ndarray (S, n, L - 1)
        Largest difference of two units' features at the start and at the end, layers 2 to L.
    """

    kind: str
    start: str
    units: tuple[int, ...]
    first: Array
    last: Array


def spreads(work: Workspace) -> list[Spread]:
    """Spread of units by kind and start of the network, of members that reached the end.

    Raises
    ------
    InputError
        If a kind and start has fewer than two seeds with all sizes.
    """
    found: dict[tuple[str, str], dict[int, dict[int, tuple[Array, Array]]]] = {}
    for _, study, trajectory in finished_members(work):
        table, spread = study.network or NetworkTable(), trajectory.series("unit_spread")
        sizes = found.setdefault((table.kind, table.start), {})
        sizes.setdefault(study.count, {})[study.seed] = (spread[0], spread[-1])
    out = []
    for (kind, start), sizes in found.items():
        seeds = sorted(set.intersection(*(set(runs) for runs in sizes.values())))
        if len(seeds) < 2:
            raise InputError(f"{kind}, {start}: expected two seeds whose networks all reach the end, got {len(seeds)}")
        units = tuple(sorted(sizes))
        first, last = (np.array([[sizes[m][seed][k] for m in units] for seed in seeds]) for k in (0, 1))
        out.append(Spread(kind, start, units, first, last))
    return out


def falls(found: Spread, layer: int, at_end: bool = False) -> Estimate:
    """Root mean square over seeds of the spread of one layer's units, l = layer + 2, against m, with its exponent."""
    values = (found.last if at_end else found.first)[:, :, layer]
    name = f"spread {found.kind} {found.start} {layer} {at_end}"
    return estimate(found.units, len(values), rates.rms(values**2), name)


def rows(found: Sequence[Spread]) -> Iterator[Spec]:
    """Exponents of every layer at the start and the end, as plain JSON rows."""
    for spread in found:
        for layer in range(spread.first.shape[2]):
            for at in ("start", "end"):
                rate = falls(spread, layer, at == "end").rate
                yield {"kind": spread.kind, "start": spread.start, "layer": layer + 2, "at": at} | rate.columns
