"""Decay of E along a run compared with what tangent kernels predict: bounds, verdicts, the linearised flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from wgflow.base.types import Array, Frame, Spec
from wgflow.base.user_objects import is_builtin
from wgflow.base.verdict import Verdict
from wgflow.energy import Energy
from wgflow.model.blocks import Unfolding
from wgflow.model.depth import Deposit, Gaps
from wgflow.report.member_selection import evenly_spaced
from wgflow.theory.decay_bound import DecayBound, decay_bound
from wgflow.theory.regularity_classes import regularity_class
from wgflow.theory.tangent_kernel import (
    ConditionalKernels,
    TangentKernel,
    conditional_kernels,
    not_proved,
    one_layer_each,
    tangent_kernel,
)

WHOLE, BY_DEPTH, CONDITIONAL = "2 λ_min(Θ)/M", "2 ∑ₖ λ_min(Θₖ)/M", "2 ∑ₖ λ_min(Kₖ) min s²(Aₖ₊₁)/M"
_PRODUCTS = 2**31  # of a kernel that is computed at all frames and not at a few
_CALLS = 2**14  # of a block that takes one sample at a time, for one frame


class DecayDiagnostics(NamedTuple):
    """Bounds of dissipation/E along a run and what they predict.

    Attributes
    ----------
    whole : DecayBound or None
        The bound of the whole tangent kernel; None if it was not computed.
    depths : list of DecayBound
        The bounds by depth and of the conditional kernels; none where a particle lies in several layers.
    frozen : ndarray (F,)
        E of the flow linearised at the first frame, at the frames of ``whole``.
    profiles : dict of str to ConditionalKernels
        Kernels of each layer at the ``"start"`` and the ``"end"``.
    ranks : str
        Which kernels are singular for want of particles; empty if none.
    reason : str
        Why a bound was not computed; empty if all were.
    not_integrated : str
        Why E(s) <= E(0) exp(-int m) is not proved of the continuous flow; empty if it is.
    """

    whole: DecayBound | None
    depths: list[DecayBound]
    frozen: Array
    profiles: dict[str, ConditionalKernels]
    ranks: str
    reason: str
    not_integrated: str

    @property
    def bounds(self) -> list[DecayBound]:
        """All bounds that were computed."""
        return [*([] if self.whole is None else [self.whole]), *self.depths]

    @property
    def verdicts(self) -> list[Verdict]:
        """Claims that were decided about all bounds, with their inequalities; a vacuous bound predicts nothing."""
        return [one for bound in self.bounds for one in bound.verdicts if one.holds is not None]


def decay_diagnostics(
    energy: Energy,
    frames: Sequence[Frame],
    few: int,
    mobility: Mapping[str, float],
    other_terms: Sequence[str],
) -> DecayDiagnostics:
    """Bounds of dissipation/E at some frames of a run.

    Parameters
    ----------
    energy : Energy
        Of the run.
    frames : list of Frame
        Frames at which the whole kernel is computed, with recorded energy and dissipation over all samples.
    few : int
        Number of frames among them at which the kernels of each layer are computed, and the only ones where a kernel is
        large or the block takes one sample at a time.
    mobility : mapping of str to float
        Of the flow.
    other_terms : list of str
        What else moves the measure.
    """
    rest = _not_integrated(energy, other_terms)
    reason = not_proved(energy) or _too_many_calls(energy, frames[0])
    if reason:
        return DecayDiagnostics(None, [], np.empty(0), {}, "", reason, rest)

    def compared(formula: str, frames: Sequence[Frame], bounds: Sequence[float]) -> DecayBound:
        s, value, dissipation = ([getattr(frame, name) for frame in frames] for name in ("s", "energy", "dissipation"))
        return decay_bound(formula, s, value, dissipation, bounds)

    chosen = [frames[number] for number in evenly_spaced(len(frames), few)]
    samples, _, outputs, parameters = energy.problem.shape
    products = (samples * outputs) ** 2 * len(frames[0].tau) * parameters
    frames = frames if isinstance(energy.problem.block, Unfolding) and products <= _PRODUCTS else chosen
    with threadpool_limits(1):  # one thread: the same bits whatever the machine, and small matrices are not slowed down
        first = tangent_kernel(energy, frames[0].particles, mobility)
        rates = [tangent_kernel(energy, frame.particles, mobility).rate for frame in frames[1:]]
        frozen = first.frozen([frame.s - frames[0].s for frame in frames])
        single = one_layer_each(energy, frames[0].particles)
        layers = [conditional_kernels(energy, frame.particles, mobility) for frame in chosen if single]
    whole = compared(WHOLE, frames, [first.rate, *rates])
    if not single:
        why = f"{energy.depth.name} spreads a particle over several layers, where the bounds by depth are not proved"
        return DecayDiagnostics(whole, [], frozen, {}, _ranks(first, None, energy), why, rest)
    depths = [
        compared(BY_DEPTH, chosen, [each.by_depth for each in layers]),
        compared(CONDITIONAL, chosen, [each.conditional for each in layers]),
    ]
    known = not np.isnan(depths[1].bound).any()
    large = "" if known else "a conditional kernel has too many rows, and a part of it gives no lower bound"
    profiles = {"start": layers[0], "end": layers[-1]}
    return DecayDiagnostics(whole, depths, frozen, profiles, _ranks(first, layers[0], energy), large, rest)


def decay_table(found: DecayDiagnostics) -> list[Spec]:
    """Bounds with what is proved of them, the numbers compared, and what was not checked."""
    out: list[Spec] = []
    for bound in found.bounds:
        rate, positive, decay = bound.verdicts
        integrated = f"not proved, as {found.not_integrated}" if found.not_integrated else "for the continuous flow"
        compared = str(positive if rate.holds is None else rate)
        out.append({"m": bound.formula, "inequality": "m ≤ dissipation/E", "proved": "yes", "on this run": compared})
        if decay.holds is not None:
            out.append(
                {"m": bound.formula, "inequality": "E(s) ≤ E(0) exp(−∫m ds)", "proved": integrated,
                 "on this run": str(decay)}
            )  # fmt: skip
    if found.ranks:
        out.append({"m": "", "inequality": "rank of the kernels", "proved": "yes", "on this run": found.ranks})
    if found.reason:
        which = "other bounds" if found.bounds else "all bounds"
        out.append({"m": which, "inequality": "", "proved": "", "on this run": f"not checked: {found.reason}"})
    return out


def _not_integrated(energy: Energy, other_terms: Sequence[str]) -> str:
    if other_terms:
        return f"{', '.join(other_terms)} change the measure as well"
    if isinstance(energy.depth, Gaps):
        return "E jumps where particles change places in depth"
    if isinstance(energy.depth, Deposit) and energy.depth.shape != "spline":
        return "E has kinks in depth"
    known = regularity_class(energy.problem.activation)
    if known is None or not is_builtin(energy.problem.block):
        return "the block is not a built-in one, and may have kinks"
    return "E has kinks, like the activation" if known.smoothness == 0 else ""


def _too_many_calls(energy: Energy, frame: Frame) -> str:
    samples, _, outputs, _ = energy.problem.shape
    calls = samples * outputs * len(energy.network(frame.particles).particle)
    if isinstance(energy.problem.block, Unfolding) or calls <= _CALLS:
        return ""
    return f"block {energy.problem.block.name} would be called {calls} > {_CALLS} times, once a sample and particle"


def _ranks(kernel: TangentKernel, layers: ConditionalKernels | None, energy: Energy) -> str:
    """Kernels whose rank, at most particles times parameters, is below their size."""
    samples, width, outputs, _ = energy.problem.shape
    sizes, found = {"Θₖ": samples * outputs, "Kₖ": samples * width}, []
    if kernel.rank < samples * outputs:
        found.append(f"Θ has rank at most N P = {kernel.rank} < M K = {samples * outputs}")
    if layers is not None:
        for name, size in sizes.items():
            short = int((layers.rank < size).sum())
            if short:
                what = f"{name} has rank at most Nₖ P = {int(layers.rank.min())} < {size}"
                found.append(f"{what} in {short} of {len(layers.rank)} layers")
    return "; ".join(found)
