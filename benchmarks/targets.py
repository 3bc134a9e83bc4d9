"""Speed targets of the project, compared with the results of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from cases import Case
from programs import PEAK
from step_page import CURVES, network_label, ratio

NARROW = Case("gaps", 1000, 1024, 16)
EVALUATIONS = {  # times JAX's jit, share of dgemm
    NARROW: (18, 0.30),
    Case("gaps", 4096, 4096, 16): (15, 0.35),
    Case("gaps", 1000, 1024, 64): (18, 0.50),
    Case("gaps", 1024, 4096, 256): (28, 0.70),
    Case("layers", 6400, 1024, 64, layers=100): (2.2, 0.55),
}
STEPS = {  # times as fast as NumPy, at least; milliseconds, at most
    Case("layers", 1_000_000, 10, 10, layers=1000, plain=True): (2, None),
    Case("layers", 316 * 316, 10, 10, layers=316, plain=True): (2, None),
    Case("layers", 50 * 200, 10, 50, layers=50, plain=True): (2, None),
    Case("layers", 50 * 100, 1000, 10, layers=50, plain=True): (2.5, None),
    Case("shallow", 100, 100, 2): (4, None),
    Case("shallow", 6, 100, 2): (1, None),
    Case("gaps", 256, 256, 4): (1, 0.3),
    Case("gaps", 16, 32, 1): (1, 0.06),
}
ACTIVATIONS = {case: 1.3 for case in (NARROW, Case("deposit", 1000, 1024, 16, layers=20))}  # times the built-in's time
STEP_TO_KERNEL, RECORDING = 1.05, 0.05


class Bar(NamedTuple):
    """A target and its measurement.

    Attributes
    ----------
    case, quantity : str
        What was measured.
    threads : str
        Number of threads; "all" is each library's default.
    asked, found : str
        Both numbers, with units.
    met : bool
        Whether it was reached.
    """

    case: str
    quantity: str
    threads: str
    asked: str
    found: str
    met: bool


def share(case: Case, timings: dict[str, Any], own: str = "wgflow", peak: str = "dgemm") -> float:
    """Flops of the products of a case, as a share of what the library's matrix product does in the same time."""
    return case.flops / timings[own]["median"] / (PEAK / timings[peak]["median"])


PARTS = "table", "steps", "samples", "activation", "flow"  # of the results, which have targets


def bars(results: dict[str, Any]) -> Iterator[Bar]:
    """All targets that were measured."""
    for row in results.get("table", []):
        case, timings = Case(**row["case"]), row["timings"]
        times, part = EVALUATIONS.get(case, (None, None))
        if times and "jax" in timings:
            found = ratio(timings, "jax", "wgflow")
            yield Bar(case.label, "evaluation: speed relative to JAX", "all", *_least(found, times, "{:.3g}×"))
        if part:
            found = share(case, timings)
            yield Bar(case.label, "evaluation: share of dgemm", "all", *_least(found, part, "{:.0%}"))
    for row in results.get("steps", []):
        case, timings, threads = Case(**row["case"]), row["timings"], str(row["threads"])
        label, (times, most) = network_label(case), STEPS[case]
        found, spent = ratio(timings, "numpy_step", "flow_step"), 1e3 * timings["flow_step"]["median"]
        yield Bar(label, "step: speed relative to NumPy", threads, *_least(found, times, "{:.3g}×"))
        if most:
            yield Bar(label, "step: time", threads, *_most(spent, most, "{:.3g} ms"))
    for name, rows in results.get("samples", {}).items():
        ratios = {row["case"]["samples"]: ratio(row["timings"], "numpy_step", "flow_step") for row in rows}
        worst = min(ratios, key=ratios.__getitem__)
        label = f"{CURVES[name]}, M = {min(ratios)} to {max(ratios):,}, slowest at {worst:,}"
        yield Bar(
            *(label, "step: speed relative to NumPy", str(rows[0]["threads"])), *_least(ratios[worst], 1, "{:.3g}×")
        )
    for row in results.get("activation", []):
        case, threads = Case(**row["case"]), str(row["threads"])
        found = ratio(row["timings"], "own_activation", "wgflow")
        quantity = "own activation: time relative to the built-in"
        yield Bar(case.label, quantity, threads, *_most(found, ACTIVATIONS[case], "{:.3g}×"))
    for row in results.get("flow", []):
        threads, found, more = str(row["threads"]), row["step"] / row["kernel"], row["recorded"] / row["step"] - 1
        yield Bar(NARROW.label, "step: time relative to the kernel", threads, *_most(found, STEP_TO_KERNEL, "{:.3g}×"))
        yield Bar(NARROW.label, "step: extra time to record a frame", threads, *_most(more, RECORDING, "{:.1%}"))


def _least(found: float, asked: float, unit: str) -> tuple[str, str, bool]:
    return f"≥ {unit.format(asked)}", unit.format(found), found >= asked


def _most(found: float, asked: float, unit: str) -> tuple[str, str, bool]:
    return f"≤ {unit.format(asked)}", unit.format(found), found <= asked


def section(results: dict[str, Any]) -> str:
    """Table of all targets; those missed are in bold."""
    found = list(bars(results))
    missed = sum(not bar.met for bar in found)
    absent = [name for name in PARTS if name not in results]
    unknown = f" Not measured in this run: the targets of {', '.join(absent)}." if absent else ""
    lines = [
        "## Targets\n",
        f"What the project set out to reach, all from this run: {len(found) - missed} of {len(found)} met.{unknown}\n",
        "| case | quantity | threads | target | measured | met |",
        "|---|---|---:|---:|---:|---|",
    ]
    for bar in found:
        met = "yes" if bar.met else "**no**"
        lines.append(f"| {bar.case} | {bar.quantity} | {bar.threads} | {bar.asked} | {bar.found} | {met} |")
    return "\n".join(lines) + "\n"
