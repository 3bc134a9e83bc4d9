"""Parts of the benchmark page about steps: NumPy loops, the number of samples, own activations, and recording."""

from __future__ import annotations

from typing import Any

from cases import Case
from programs import PEAK, VALUES

CURVES = {"layers": "Layers, 50 layers of 100, D = 10", "gaps": "Gaps, N = 1000, D = 16"}


def time_label(seconds: float) -> str:
    """Duration with its unit, to about three digits."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def ratio(timings: dict[str, Any], other: str, own: str) -> float:
    """Median time of ``other`` divided by that of ``own``."""
    return timings[other]["median"] / timings[own]["median"]


def network_label(case: Case) -> str:
    """Label of a case in a table of steps."""
    if case.scheme != "layers":
        return case.label
    return f"Layers, {case.layers} of {case.particles // case.layers}, M, D = {case.samples}, {case.width}"


def arithmetic(case: Case, timings: dict[str, Any], threads: int) -> float:
    """Seconds that the arithmetic of a step takes: its products at the speed of dgemm, and its tanh."""
    products = case.flops / (PEAK / timings["dgemm"]["median"])
    return products + case.particles * case.samples / VALUES * timings["tanh"]["median"] / threads


def steps(rows: list[dict[str, Any]]) -> str:
    """Table of steps compared with NumPy."""
    lines = [
        "## One step, compared with a NumPy loop\n",
        "One Euler step of `Flow.run`, complete, and the same step written by hand in NumPy (`benchmarks/twins.py`:",
        "preallocated arrays, matrix products by BLAS), on as many threads: CPU time on one, wall-clock time on two.",
        "*Arithmetic* is what the products of the step take at the speed of dgemm, and its tanh, both measured in the",
        "same turns on as many threads. NumPy's time divided by it bounds the ratio that a program with these products",
        "and this tanh can reach. With few samples reading and writing the parameters, which it leaves out, takes",
        "longer.\n",
        "| case | threads | NumPy | wgflow | quartiles | NumPy / wgflow | arithmetic | NumPy / arithmetic |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        case, timings, threads = Case(**row["case"]), row["timings"], row["threads"]
        own, other = timings["flow_step"], timings["numpy_step"]
        least = arithmetic(case, timings, threads)
        cells = [network_label(case), str(threads), time_label(other["median"]), time_label(own["median"])]
        cells += [f"{time_label(own['low'])} to {time_label(own['high'])}"]
        cells += [f"{ratio(timings, 'numpy_step', 'flow_step'):.2g}×"]
        cells += [time_label(least), f"{other['median'] / least:.2g}×"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def activation(rows: list[dict[str, Any]]) -> str:
    """Table of user-defined activations compared with built-in ones."""
    lines = [
        "## Your own activation\n",
        "One evaluation with tanh by its name, and with tanh passed as value and derivative in Python: CPU time on one",
        "thread, wall-clock time on two.\n",
        "| case | threads | built-in | own | own / built-in | first call |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        timings = row["timings"]
        cells = [Case(**row["case"]).label, str(row["threads"])]
        cells += [time_label(timings[program]["median"]) for program in ("wgflow", "own_activation")]
        cells += [f"{ratio(timings, 'own_activation', 'wgflow'):.2f}×", f"{timings['own_activation']['first']:.1f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def samples(curves: dict[str, list[dict[str, Any]]]) -> str:
    """Table of steps by number of samples, with the figure."""
    sizes = [row["case"]["samples"] for row in next(iter(curves.values()))]
    lines = [
        "## From one sample to many\n",
        "One step on one thread, in wgflow and in NumPy, in CPU time.\n",
        "![Time of one step against the number of samples, and its ratio to NumPy's](images/benchmarks_samples.png)\n",
        "| case | | " + " | ".join(f"M = {size:,}" for size in sizes) + " |",
        "|---|---|" + "---:|" * len(sizes),
    ]
    for name, rows in curves.items():
        for label, program in (("NumPy", "numpy_step"), ("wgflow", "flow_step")):
            cells = [time_label(row["timings"][program]["median"]) for row in rows]
            lines.append(f"| {CURVES[name]} | {label} | {' | '.join(cells)} |")
        cells = [f"{ratio(row['timings'], 'numpy_step', 'flow_step'):.2g}×" for row in rows]
        lines.append(f"| | ratio | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def flow(rows: list[dict[str, Any]]) -> str:
    """Table of the parts of a step, and of recording."""
    lines = [
        "## A flow's step\n",
        "Gaps with N, M, D = 1000, 1024, 16. The kernel gives the energy and its gradient; the evaluation,",
        "`Energy.velocity`, adds sorting by depth, velocities and the dissipation; a step of `Flow.run` moves the",
        "particles, checks them and counts exchanges. Frames are copies of the state, yielded or appended to a file.\n",
        "| threads | kernel | evaluation | step | and a frame | and recorded | step / kernel | recording |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        parts = ("kernel", "evaluation", "step", "frame", "recorded")
        cells = [time_label(row[part]) for part in parts]
        lines.append(
            f"| {row['threads']} | {' | '.join(cells)} | {row['step'] / row['kernel']:.3f}× "
            f"| {row['recorded'] / row['step'] - 1:+.1%} |"
        )
    return "\n".join(lines) + "\n"


def figure(curves: dict[str, list[dict[str, Any]]], style: Any) -> Any:
    """Figure: time of a step against the number of samples, and speed relative to NumPy."""
    drawn, (time, times) = style.panels(2, width=5.8, height=4.3)
    for (name, rows), colour in zip(curves.items(), style.COLOURS, strict=False):
        sizes = [row["case"]["samples"] for row in rows]
        for program, label, look in (("numpy_step", "NumPy", "s--"), ("flow_step", "wgflow", "o-")):
            spent = [1e3 * row["timings"][program]["median"] for row in rows]
            time.plot(sizes, spent, look, color=colour, label=f"{name.capitalize()}: {label}")
        times.plot(
            *(sizes, [ratio(row["timings"], "numpy_step", "flow_step") for row in rows], "o-"),
            color=colour,
            label=CURVES[name],
        )
    times.axhline(1, color=style.GREY, linewidth=1)
    times.text(0.02, 1, "as fast as NumPy", color=style.GREY, fontsize=9.5, ha="left", va="top",
               transform=times.get_yaxis_transform())  # fmt: skip
    time.set(title="One step on one thread", ylabel="CPU time (ms)", yscale="log")
    times.set(title="Speed relative to NumPy", ylabel="time of NumPy / time of wgflow")
    times.set_yscale("log")
    for panel in (time, times):
        panel.set(xscale="log", xlabel="samples $M$")
        panel.minorticks_off()
        panel.legend(loc="upper left" if panel is time else "best")
    low, high = times.get_ylim()
    times.set_ylim(min(low, 0.5), max(high, 2))
    return drawn
