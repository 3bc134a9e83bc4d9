"""The benchmark page and its figure, from docs/benchmarks.json.

Usage: python benchmarks/page.py     writes docs/benchmarks.md and docs/images/benchmarks.png again
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gpu_page
import numpy as np
from cases import Case
from programs import PEAK, PROGRAMS

LABELS = {name: label for name, (label, _) in PROGRAMS.items()}
AXES = {"particles": "N", "samples": "M", "width": "D"}
BARS = {  # what issue and design ask for: times JAX's jit, share of dgemm
    Case("gaps", 1000, 1024, 16): (18, 0.30),
    Case("gaps", 4096, 4096, 16): (15, 0.35),
    Case("gaps", 1000, 1024, 64): (18, 0.50),
    Case("gaps", 1024, 4096, 256): (28, 0.70),
    Case("layers", 6400, 1024, 64, layers=100): (2.2, 0.55),
}

INTRODUCTION = """# Benchmarks

Time of one evaluation: the energy with the velocity of every particle, in wgflow and in programs that differentiate the
same network. Everything below was measured in one run of one command on one machine:

    make bench

{machine}

![Time of one evaluation in each program, and growth with N, M and D](images/benchmarks.png)
"""

LIMITS = """## What limits it

- **Narrow states.** Per particle and sample there is one activation (about 0.95 ns of one core for tanh with AVX-512)
  whatever D is, and inside a group of G particles a triangle of 4 G flops beside 14 D. At D = 16 these and the stores
  of the tape take about as long as the products; at D = 256 the products are nearly all.
- **Small problems.** N, M, D = 256, 256, 4 was meant to take 0.3 ms. One core needs 0.26 ms in the kernel (tanh 0.07,
  products 0.1, sums and rows the rest) and 0.1 ms outside of it: sorting, arrays, calls. A second core does not help,
  since waking a sleeping thread takes 0.03 to 0.09 ms here; only threads that spin between evaluations would.
- **Minibatches.** Stacking parameters and adding up gradients cost the same for 64 samples as for 1024.
- **A flow's step.** 5% beyond the kernel was the aim. What is left is memory traffic over arrays of N P numbers
  (velocities, the step, the checks) and the count of exchanges; recording frames in a file comes on top.
- **Layers.** A layer of 64 units is a matrix product already, in every program; what is left to gain is the fused
  activation, and a tape that fits in cache.
"""

METHOD = """## Method

- **The same numbers.** Ridge blocks a tanh(w·x + b), squared loss, one output, standard normal data, float64 unless it
  says otherwise. Every program gets the same arrays and computes E and its gradient in all particles on every call, and
  in the layers' weights (under `Layers` these are fixed, and wgflow has no such gradient). wgflow's time is that of
  `Energy.velocity`: sorting by depth, the velocities in θ and τ and the dissipation are part of it.
- **All agree.** Before anything is timed, every program's energy and gradients are compared with wgflow's; more than
  1e-9 of the largest entry (1e-3 in float32) ends the run. The tables give the largest difference.
- **Turns.** Each program runs in a process of its own, so that no library's threads are in another's way, and with that
  library's own defaults for threads. The processes take turns, five each, of about {share} s of calls after {warm} to
  warm up and a pause of {pause} s; so a change of the machine's speed meets all alike. Medians of all calls, with
  quartiles. Compiling is not part of them; the first call is in its own column.
- **The floor.** dgemm (sgemm for float32) is NumPy's product of two 2048 × 2048 matrices in the same turns. "Of dgemm"
  counts 14 N M D multiplications and additions for `Gaps` and 12 N M D for `Layers`: the products with states,
  adjoints and gradients that no order of computation can avoid. The N M activations come on top, and under `Gaps` the
  triangles inside groups; both weigh more the smaller D is.
- **Memory** is the most a process held, through its first call, beyond what it held with its libraries and data before
  it; compiling, or loading compiled kernels, is included.
- **A flow's step** is timed beside bare calls of the kernel at the flow's first measure, in turns in one process.
- **Programs:**
{peers}

To repeat it: `make bench` writes `docs/benchmarks.json`, this page and its figure; `python benchmarks/page.py` draws
them from the file again. `python benchmarks/run.py --quick` is a rehearsal of about a minute.
"""


def write(results: dict[str, Any], docs: Path) -> None:
    """Results as JSON, the page and the figure."""
    (docs / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (docs / "benchmarks.md").write_text(markdown(results), encoding="utf-8")
    if "curves" in results:
        draw(results, docs / "images" / "benchmarks")


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    import turns

    peers = "\n".join(
        f"  - {label}: {build.__doc__.split(': ')[-1].rstrip('.')}."
        for name, (label, build) in PROGRAMS.items()
        if name not in ("wgflow", "wgflow32", "dgemm", "sgemm")
    )
    parts = [INTRODUCTION.format(machine=_machine(results["machine"])), "## One evaluation\n"]
    parts += [_summary(results["table"])]
    parts += [_case_table(row) for row in results["table"]]
    if "curves" in results:
        parts += [_curves(results["curves"]), _flow(results["flow"]), _memory(results["memory"])]
        parts += [_blocks(results["blocks"])]
    docs = Path(__file__).parents[1] / "docs"
    parts.append(gpu_page.section(gpu_page.load(docs), gpu_page.load(docs, "benchmarks_gpu_code")))
    parts.append(LIMITS)
    parts.append(METHOD.format(share=turns.SHARE, warm=turns.WARM, pause=turns.PAUSE, peers=peers))
    return "\n".join(parts)


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {versions}."


def _summary(table: list[dict[str, Any]]) -> str:
    lines = ["| case | time | against JAX's jit | of dgemm | float32 against float64 |", "|---|---:|---:|---:|---:|"]
    for row in table:
        case, timings = Case(**row["case"]), row["timings"]
        ratio, share = _ratio(timings, "jax"), _share(case, timings)
        times, part = BARS.get(case, (None, None))
        lines.append(
            f"| {case.label} | {_time(timings['wgflow']['median'])} | {ratio:.1f}×{_bar(times, '×')} "
            f"| {share:.0%}{_bar(part and round(100 * part), '%')} | {_ratio(timings, 'wgflow', 'wgflow32'):.2f}× |"
        )
    return "\n".join(lines) + "\n\nIn brackets what the project set out to reach.\n"


def _bar(value: float | None, unit: str) -> str:
    return f" ({value}{unit})" if value else ""


def _ratio(timings: dict[str, Any], other: str, own: str = "wgflow") -> float:
    return timings[other]["median"] / timings[own]["median"]


def _share(case: Case, timings: dict[str, Any], own: str = "wgflow", peak: str = "dgemm") -> float:
    return case.flops / timings[own]["median"] / (PEAK / timings[peak]["median"])


def _case_table(row: dict[str, Any]) -> str:
    case, timings = Case(**row["case"]), row["timings"]
    lines = [
        f"### {case.label}\n",
        "| program | median | quartiles | calls | times wgflow | first call | memory | difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, timing in timings.items():
        if name in ("dgemm", "sgemm"):
            continue
        quartiles = f"{_time(timing['low'])} to {_time(timing['high'])}"
        lines.append(
            f"| {LABELS[name]} | {_time(timing['median'])} | {quartiles} | {timing['calls']} "
            f"| {timing['median'] / timings['wgflow']['median']:.1f} | {timing['first']:.1f} s "
            f"| {timing['memory'] / 2**20:.0f} MiB | {timing['difference']:.0e} |"
        )
    peaks = ", ".join(f"{name} {PEAK / timings[name]['median'] / 1e9:.0f} GFLOP/s" for name in ("dgemm", "sgemm"))
    share32 = f"{_share(case, timings, 'wgflow32', 'sgemm'):.0%} of sgemm in float32"
    return "\n".join(lines) + f"\n\n{peaks}; wgflow {_share(case, timings):.0%} of dgemm, {share32}.\n"


def exponent(rows: list[dict[str, Any]], axis: str, program: str) -> float:
    """Slope of log time against log size over the last decade."""
    sizes = np.array([row["case"][axis] for row in rows], float)
    times = np.array([row["timings"][program]["median"] for row in rows])
    last = sizes >= sizes[-1] / 10
    return float(np.polyfit(np.log(sizes[last]), np.log(times[last]), 1)[0])


def _curves(curves: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "## Growth with N, M and D\n",
        "Exponents are fitted to the last decade of each range.\n",
        "| varied | range | wgflow | exponent | JAX's jit | exponent |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for axis, rows in curves.items():
        first, last = rows[0], rows[-1]
        cells = []
        for program in ("wgflow", "jax"):
            ends = [_time(row["timings"][program]["median"]) for row in (first, last)]
            cells += [" to ".join(ends), f"{exponent(rows, axis, program):.2f}"]
        others = ", ".join(f"{AXES[name]} = {first['case'][name]}" for name in AXES if name != axis)
        sizes = f"{AXES[axis]} = {first['case'][axis]} to {last['case'][axis]}; {others}"
        lines.append(f"| {AXES[axis]} | {sizes} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _flow(flow: dict[str, float]) -> str:
    share = (flow["flow"] - flow["kernel"]) / flow["flow"]
    return (
        "## A flow's step\n\n"
        "`Flow.run` with Euler steps and a frame after each, Gaps with N, M, D = 1000, 1024, 16: "
        f"{_time(flow['flow'])} a step, of which {_time(flow['kernel'])} are the kernel's. The rest, {share:.0%}, is "
        "sorting, velocities from gradients, counting exchanges, checks and the frame.\n"
    )


def _memory(rows: list[dict[str, float]]) -> str:
    said = "; ".join(
        f"M = {row['samples']:,}: {row['bytes'] / 2**20:.0f} MiB beyond the inputs, {row['seconds']:.0f} s"
        for row in rows
    )
    return f"## Memory of a large evaluation\n\nGaps, N = 100,000, D = 16, one velocity. {said}.\n"


def _blocks(rows: list[dict[str, Any]]) -> str:
    groups, blocks = (8, 16, 32, 64), (32, 64, 256)
    heads = [f"G = {group}" for group in groups] + [f"block of {block}" for block in blocks]
    lines = [
        "## Group and block sizes\n",
        "Times with other sizes, one changed at a time, as multiples of the rule's (`python benchmarks/blocks.py`).\n",
        f"| case | rule | time | {' | '.join(heads)} |",
        "|---|---|---:|" + "---:|" * len(heads),
    ]
    for row in rows:
        times, chosen = row["milliseconds"], row["chosen"]
        group, block = chosen.split(", ")
        others = [f"{other}, {block}" for other in groups] + [f"{group}, {other}" for other in blocks]
        cells = [f"{times[other] / times[chosen]:.2f}" for other in others]
        rule = f"G = {group}, block of {block}"
        lines.append(f"| {Case(**row['case']).label} | {rule} | {_time(1e-3 * times[chosen])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of all programs on the first case, and the cost curves."""
    from wgflow.report import style

    with style.styled():
        figure = _figure(results, style)
    figure.savefig(path.with_suffix(".png"), dpi=160)


def _figure(results: dict[str, Any], style: Any) -> Any:
    figure, axes = style.panels(2, width=6.2, height=4.2, rows=2)
    row = results["table"][0]
    case, timings = Case(**row["case"]), row["timings"]
    names = [name for name in LABELS if name in timings and name not in ("dgemm", "sgemm")][::-1]
    times = [1e3 * timings[name]["median"] for name in names]
    own = timings["wgflow"]["median"]
    colours = [style.COLOURS[0] if name.startswith("wgflow") else style.GREY for name in names]
    axes[0].barh([LABELS[name] for name in names], times, color=colours)
    for place, name in enumerate(names):
        ratio = timings[name]["median"] / own
        text = f" {_time(timings[name]['median'])}" + (f", {ratio:.0f}×" if ratio >= 2 else "")
        axes[0].text(times[place], place, text, va="center", fontsize=9.5)
    axes[0].set(xscale="log", xlabel="milliseconds of one evaluation", title=case.label, xlim=(1, max(times) * 8))
    axes[0].grid(axis="y", visible=False)
    for panel, (axis, rows) in zip(axes[1:], results["curves"].items(), strict=True):
        sizes = [each["case"][axis] for each in rows]
        for program, colour, mark in (("jax", style.COLOURS[1], "s"), ("wgflow", style.COLOURS[0], "o")):
            spent = [1e3 * each["timings"][program]["median"] for each in rows]
            label = f"{LABELS[program]}: {AXES[axis]}$^{{{exponent(rows, axis, program):.2f}}}$"
            panel.plot(sizes, spent, marker=mark, color=colour, label=label)
        others = ", ".join(f"{AXES[name]} = {rows[0]['case'][name]}" for name in AXES if name != axis)
        panel.set(xscale="log", yscale="log", xlabel=AXES[axis], ylabel="milliseconds", title=f"Gaps, {others}")
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.legend(loc="upper left")
    return figure


if __name__ == "__main__":
    place = Path(__file__).parents[1] / "docs"
    write(json.loads((place / "benchmarks.json").read_text(encoding="utf-8")), place)
