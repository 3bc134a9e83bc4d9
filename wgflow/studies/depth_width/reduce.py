"""Distance of finite networks to their limit in depth L and particles per layer M_l.

Members of a study that differ in nothing but L, M_l, seed, part and the coupling of their layers at the start are
compared with a reference of the same coupling, of which they may be sub-samples. Ding, Chen, Li and Wright
(arXiv:2110.02926, Theorem 5.1): with one path through all layers the error is O(1/L) + O(M_l**(-1/2)); Chizat
(arXiv:2509.10167): with independent layers it is O(1/L) + O((L M_l)**(-1/2)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from wgflow.base.errors import InputError
from wgflow.base.types import Array, Spec
from wgflow.base.verdict import Claim, Verdict, first_that_holds
from wgflow.report.figure import cached
from wgflow.report.member_selection import finished_members, shared_times
from wgflow.report.wording import interval
from wgflow.stats import convergence_rates as rates
from wgflow.stats.convergence_rates import Estimate, Interval, Statistic, estimate, exponent_interval
from wgflow.stats.fit import CrossValidation, LawFit, cross_validate, fit_law
from wgflow.stats.scaling_laws import Sizes
from wgflow.study.workspace import Workspace

Draw = tuple[int, int]  # seed and part
_Listed = tuple[bool, tuple[int, int], Draw, int | None, Array, "Run"]  # reference?, size, draw, within, s, run
_OPEN = 2.0  # width from which on an exponent's interval is uninformative
LAWS = ("path", "independent", "additive")  # compared by cross-validation


class Run(NamedTuple):
    """One network: E (T,) and its outputs at the samples (T, M K), at the stated flow times."""

    energy: Array
    outputs: Array


class Family(NamedTuple):
    """Networks with one coupling of their layers at the start, and their reference.

    Attributes
    ----------
    coupling : str
        ``path`` or ``independent``.
    s : ndarray (T,)
        Flow times that all of them recorded.
    runs : dict of (int, int) to dict of (int, int) to Run
        By L and M_l, then by seed and part.
    reference, largest : Run, tuple of int
        The largest network, and its L and M_l.
    nested : bool
        Whether the others are sub-samples of it.
    """

    coupling: str
    s: Array
    runs: dict[tuple[int, int], dict[Draw, Run]]
    reference: Run
    largest: tuple[int, int]
    nested: bool

    @property
    def depths(self) -> tuple[int, ...]:
        """L of the grid, increasing."""
        return tuple(sorted({depth for depth, _ in self.grid}))

    @property
    def widths(self) -> tuple[int, ...]:
        """M_l of the grid, increasing."""
        return tuple(sorted({width for _, width in self.grid}))

    @property
    def grid(self) -> list[tuple[int, int]]:
        """Sizes with as many draws as most of them have: those that laws are fitted to."""
        return [size for size, draws in self.runs.items() if set(self.draws) <= set(draws)]

    @property
    def draws(self) -> list[Draw]:
        """Seeds and parts that most sizes have."""
        counts = [len(draws) for draws in self.runs.values()]
        usual = max(set(counts), key=lambda count: (counts.count(count), count))
        common = [set(draws) for draws in self.runs.values() if len(draws) >= usual]
        return sorted(set.intersection(*common))

    def sizes(self) -> Sizes:
        """Sizes of grid and reference for the laws."""
        largest = (float(self.largest[0]), float(self.largest[1]))
        return Sizes(self.depths, self.widths, largest, self.nested)

    def squares(self, t: int) -> Array:
        """Squared distances of the outputs to the reference's, (S, nL, nM); NaN for sizes without members."""
        depths, widths, draws = self.depths, self.widths, self.draws
        out = np.full((len(draws), len(depths), len(widths)), np.nan)
        for (depth, width), runs in self.runs.items():
            if depth in depths and width in widths and set(draws) <= set(runs):
                gaps = self.gaps(depth, width, t, draws)
                out[:, depths.index(depth), widths.index(width)] = (gaps**2).mean(axis=1)
        return out

    def gaps(self, depth: int, width: int, t: int, draws: Sequence[Draw]) -> Array:
        """Outputs of networks of one size minus the reference's, (S, M K)."""
        runs = self.runs[depth, width]
        return np.asarray(np.stack([runs[draw].outputs[t] for draw in draws]) - self.reference.outputs[t])


STEADIER = Claim(
    "depth_reduces_fluctuation", "low end of the factor's 95% interval", ">", "",
    holds="from L = {first} to {last} the fluctuation of the outputs over draws falls by a factor of {factor} at {at}",
    fails="from L = {first} to {last} the fluctuation of the outputs over draws does not change significantly at {at}: "
    "it falls by a factor of {factor}",
    unknown="nothing is known of the fluctuation of the outputs over draws at {at}",
)  # fmt: skip
LESS_STEADY = Claim(
    "depth_increases_fluctuation", "its high end", "<", "",
    holds="from L = {first} to {last} the fluctuation of the outputs over draws grows at {at}: it falls by a factor of "
    "{factor}",
    fails=STEADIER.fails, unknown=STEADIER.unknown,
)  # fmt: skip


class DepthFluctuation(NamedTuple):
    """Standard deviation of the outputs over draws, ``spread`` (n,), against L at one M_l.

    ``exponent`` is r of C L**(-r) with its 95% interval.
    """

    depths: tuple[int, ...]
    width: int
    spread: Array
    exponent: Interval

    @property
    def factor(self) -> Interval:
        """Factor by which it falls from the smallest to the largest L according to the power law, with its interval."""
        with np.errstate(over="ignore"):
            return Interval(*(float(np.float64(self.depths[-1] / self.depths[0]) ** end) for end in self.exponent))

    @property
    def verdict(self) -> Verdict:
        """Whether it falls or grows with L; each is said falsely with a probability of at most 2.5%."""
        ends = {"first": self.depths[0], "last": self.depths[-1], "at": f"M_l = {self.width}"}
        said = ends | {"factor": interval(*self.factor)}
        return first_that_holds([STEADIER(self.factor.low, 1.0, **said), LESS_STEADY(self.factor.high, 1.0, **said)])


class FamilyFit(NamedTuple):
    """Laws and rates fitted to a family at one flow time.

    Attributes
    ----------
    s : float
        Flow time.
    fitted : LawFit
        The law whose exponents are fitted: with paths those of L and of M_l, with independent layers that of L M_l.
    chosen : CrossValidation
        Cross-validation of the laws.
    law : LawFit
        The one that predicts best.
    width : Estimate
        Rms distance to the reference against M_l, at the largest L.
    depth, depth_width : Estimate, int
        Error of depth alone against L: with paths the distance to the deepest network of the same paths, with
        independent layers the norm of the mean distance to the reference; and M_l of these networks.
    alone : float
        Exponent in L of the distance to the reference where M_l is the reference's own, so that no error of width is
        left; from one draw, so without an interval. NaN without such networks.
    gain : DepthFluctuation
        Fluctuation over draws against depth.
    """

    s: float
    fitted: LawFit
    chosen: CrossValidation
    law: LawFit
    width: Estimate
    depth: Estimate
    depth_width: int
    alone: float
    gain: DepthFluctuation


@cached
def laws(work: Workspace) -> list[tuple[Family, list[FamilyFit]]]:
    """Families of a run with their fits at all flow times; raises InputError as `families` and `fit_family` do."""
    return [(family, [fit_family(family, t) for t in range(len(family.s))]) for family in families(work)]


def families(work: Workspace) -> list[Family]:
    """Families of a run's members, one for each coupling of the layers at the start.

    Raises
    ------
    InputError
        If a coupling has no reference, or its members share no flow time.
    """
    members: dict[str, list[_Listed]] = {}
    for file, study, trajectory in finished_members(work):
        s, table = trajectory.series("s"), study.particles
        run = Run(trajectory.series("energy"), trajectory.series("outputs").reshape(len(s), -1))
        within = None if table.fresh else table.within
        about = (file.reference, study.shape, (study.seed, table.part), within, s, run)
        members.setdefault(table.coupling, []).append(about)
    if not members:
        raise InputError(f"{work.folder}: expected members that reach the end, got none; run the study first")
    return [_family(coupling, listed) for coupling, listed in members.items()]


def _family(coupling: str, listed: list[_Listed]) -> Family:
    largest = max((size for is_reference, size, *_ in listed if is_reference), default=None)
    if largest is None:
        raise InputError(f"coupling {coupling}: expected a reference that reaches the end, got none")
    shared = shared_times([s for *_, s, _ in listed])
    if not len(shared):
        raise InputError(f"coupling {coupling}: expected flow times that all members recorded, got none")
    runs: dict[tuple[int, int], dict[Draw, Run]] = {}
    for is_reference, size, draw, _, s, run in listed:
        rows = np.abs(s[:, None] - shared).argmin(axis=0)
        at_shared = Run(run.energy[rows], run.outputs[rows])
        if not is_reference:
            runs.setdefault(size, {})[draw] = at_shared
        elif size == largest:
            reference, seed = at_shared, draw[0]
    nested = all(
        within == largest[0] and draw[0] == seed and (draw[1] + 1) * size[1] <= largest[1]
        for _, size, draw, within, _, _ in listed
    )
    return Family(coupling, shared, runs, reference, largest, nested)


def fit_family(family: Family, t: int) -> FamilyFit:
    """Fit laws and rates at the t-th flow time; raises InputError if the grid is too small for the laws."""
    if len(family.draws) < rates.MIN_SEEDS:
        raise InputError(
            f"coupling {family.coupling}: expected at least {rates.MIN_SEEDS} draws that sizes have in common, got "
            f"{len(family.draws)}; did members diverge or go missing? run the study again"
        )
    sizes, squares, s = family.sizes(), family.squares(t), float(family.s[t])
    name = f"{family.coupling} {s!r}"
    chosen = cross_validate(squares, sizes, LAWS)
    complete = ~np.isnan(squares[:, -1, :]).any(axis=0)  # widths at the largest depth that have all draws
    widths, statistic = np.array(sizes.widths)[complete].tolist(), rates.rms(squares[:, -1, complete])
    width = estimate(widths, len(squares), statistic, f"{name} width", family.largest[1], family.nested)
    depth, depth_width = _depth(family, t, name)
    fitted = fit_law(squares, sizes, "free" if family.coupling == "path" else "product", name)
    law = fit_law(squares, sizes, chosen.laws[0], name)
    alone, gain = _alone(family, t), _depth_fluctuation(family, t, name)
    return FamilyFit(s, fitted, chosen, law, width, depth, depth_width, alone, gain)


def _depth(family: Family, t: int, name: str) -> tuple[Estimate, int]:
    """Error of depth alone, from the widest networks with enough draws."""
    several = {size: set(runs) for size, runs in family.runs.items() if len(runs) >= rates.MIN_SEEDS}
    widest = max(width for _, width in several)
    draws = sorted(set.intersection(*(runs for (_, width), runs in several.items() if width == widest)))
    at = sorted(depth for depth, width in several if width == widest)
    if len(draws) < rates.MIN_SEEDS or len(at) < 2:
        raise InputError(
            f"coupling {family.coupling}: expected several depths of M_l = {widest} with at least {rates.MIN_SEEDS} "
            "draws in common, got fewer; did members diverge or go missing? run the study again"
        )
    if family.coupling == "path":
        deepest, at = at[-1], at[:-1]
        end = family.gaps(deepest, widest, t, draws)
        squares = [((family.gaps(depth, widest, t, draws) - end) ** 2).mean(axis=1) for depth in at]
        statistic: Statistic = rates.rms(np.stack(squares, axis=1))
        return estimate(at, len(draws), statistic, f"{name} depth", deepest, True), widest
    products = _products([family.gaps(depth, widest, t, draws) for depth in at])
    return estimate(at, len(draws), rates.norm_of_mean(products), f"{name} depth", family.largest[0], True), widest


def _alone(family: Family, t: int) -> float:
    """Exponent in L of the distance to the reference of networks as wide as it, by 1/L - 1/L_ref."""
    limit, width = family.largest
    at = sorted(depth for depth, other in family.runs if other == width and depth < limit)
    if len(at) < 3 or not family.nested:
        return float("nan")
    size = [np.sqrt(np.mean(family.gaps(depth, width, t, sorted(family.runs[depth, width])[:1]) ** 2)) for depth in at]
    if not min(size) > 0:
        return float("nan")
    return float(np.polyfit(np.log(1 / np.array(at) - 1 / limit), np.log(size), 1)[0])


def _products(gaps: Sequence[Array]) -> Array:
    """Products g_s . g_t / length of vectors (S, length) at each of n sizes, (n, S, S)."""
    return np.stack([gap @ gap.T / gap.shape[1] for gap in gaps])


def _depth_fluctuation(family: Family, t: int, name: str) -> DepthFluctuation:
    """Fluctuation over draws against L."""
    width = max(family.widths, key=lambda width: (sum(other == width for _, other in family.grid), width))
    at = [depth for depth in family.depths if (depth, width) in family.grid]
    statistic = rates.standard_deviation(_products([family.gaps(depth, width, t, family.draws) for depth in at]))
    seeds = len(family.draws)
    exponent = exponent_interval(at, seeds, statistic, f"{name} gain")
    return DepthFluctuation(tuple(at), width, statistic(np.ones((1, seeds)))[0], exponent)


def rows(found: Sequence[tuple[Family, Sequence[FamilyFit]]]) -> Iterator[Spec]:
    """Exponents as plain JSON rows, one for each coupling, flow time and quantity."""
    for family, at in found:
        for fits in at:
            common: Spec = {"coupling": family.coupling, "s": fits.s}
            names = ("depth", "width", "depth of the width term") if fits.fitted.law == "free" else ("depth", "L M_l")
            for quantity, exponent in zip(names, fits.fitted.exponents, strict=False):
                yield common | {"quantity": f"{quantity}, {fits.fitted.law} law"} | _columns(exponent)
            for name, one in (("width", fits.width), ("depth", fits.depth)):
                yield common | {"quantity": name} | one.rate.columns
            if np.isfinite(fits.alone):
                row = {"exponent": fits.alone, "low": None, "high": None, "no_rate": ""}
                yield common | {"quantity": f"depth, M_l = {family.largest[1]}"} | row
            yield common | {"quantity": "spread over draws against depth"} | _columns(fits.gain.exponent)


def _columns(exponent: Interval) -> Spec:
    """Columns of an exponent, empty if its interval is uninformative."""
    known = exponent.high - exponent.low < _OPEN
    value, low, high = exponent if known else (None, None, None)
    return {"exponent": value, "low": low, "high": high, "no_rate": "" if known else "not told by these sizes"}


def energies(family: Family) -> Iterator[Spec]:
    """Rms and mean over draws of E minus the reference's, a row for each size and flow time."""
    for (depth, width), runs in sorted(family.runs.items()):
        excess = np.stack([run.energy for run in runs.values()]) - family.reference.energy
        for t, s in enumerate(family.s):
            yield {
                "coupling": family.coupling, "layers": depth, "per_layer": width, "s": float(s), "draws": len(runs),
                "rms_energy": float(np.sqrt((excess[:, t] ** 2).mean())),
                "mean_excess": float(excess[:, t].mean()),
                "energy_reference": float(family.reference.energy[t]),
            }  # fmt: skip
