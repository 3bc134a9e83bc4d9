"""Benchmark page and its figures, from docs/benchmarks.json.

Usage: python benchmarks/page.py     rewrites docs/benchmarks.md and the figures in docs/images
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_page
import numpy as np
import step_page
import targets
from cases import Case
from programs import PEAK, PROGRAMS, TOGETHER
from step_page import ratio, time_label
from targets import share

LABELS = {name: label for name, (label, _) in PROGRAMS.items()}
AXES = {"particles": "N", "samples": "M", "width": "D"}
INTRODUCTION = """# Benchmarks

wgflow compared with programs that differentiate or step the same network: one evaluation, the energy with the velocity
of every particle, against JAX, PyTorch, diffrax and torchdiffeq; one step of a flow against a NumPy loop. Everything
below was measured in one run of one command on one machine:

    make bench

{machine}

![Time of one evaluation in each program, and growth with N, M and D](images/benchmarks.png)
"""

LIMITS = """## What limits the speed

- **Narrow states.** Per particle and sample there is one activation (about 0.95 ns of one core for tanh with AVX-512)
  whatever D is, and inside a group of G particles a triangle of 4 G flops per sample in addition to 14 D. At D = 16
  these and the stores of the tape take about as long as the products; at D = 256 the products are nearly all.
- **Few samples in wide layers.** In each step every parameter is read in both passes and written once: for 1000 layers
  of 1000 units at D = 10 that is about half a gigabyte, whatever the number of samples. Memory
  bandwidth, which the cores share, sets the floor.
- **Small problems.** Below 0.1 ms a step is mostly calls in Python, in wgflow as in NumPy. A second core does not help,
  since waking a sleeping thread takes 0.03 to 0.09 ms.
- **Sweeps of tiny members.** With 16 particles, 32 samples, 100 steps and 11 frames a member takes about 12 ms of one
  core in a sweep of 1,000: 1.8 ms to make its file, 1.3 its steps (0.9 of them compiled), 0.9 its objects, 0.6 its
  frames, 5.6 its share of summary, figures and page. Stepping several members in one call would gain 0.1 ms.
- **Minibatches.** Stacking parameters and adding up gradients cost the same for 64 samples as for 1024.
- **A flow's step.** Beyond the kernel there is memory traffic over arrays of N P numbers (velocities, the step, the
  checks) and the count of exchanges.
- **Layers with many samples.** A layer of 64 units is a matrix product already, in every program; what is left to gain
  is the fused activation, and a tape that fits in cache.
"""

METHOD = """## Method

- **The same numbers.** Ridge blocks a tanh(w·x + b), squared loss, one output, standard normal data, float64 unless it
  says otherwise. Every program gets the same arrays and computes E and its gradient in all particles on every call,
  and in the layers' weights (under `Layers` these are fixed, and wgflow does not compute that part). wgflow's time is
  that of `Energy.velocity`: sorting by depth, the velocities in θ and τ and the dissipation are part of it. The
  networks of L layers of n units that are stepped have no bias and D outputs, as published NumPy loops for them do.
- **All agree.** Before anything is timed, every program's energy and gradients, or the energy and the velocity of its
  first step, are compared with wgflow's; more than 1e-9 of the largest entry (1e-3 in float32) ends the run. The
  tables give the largest difference.
- **Turns.** Each program runs in its own process, so that no library's threads disturb another's, and with that
  library's default number of threads unless a table gives it. The processes take turns, three each, of about {share} s
  of calls after {warm} to warm up and a pause of {pause} s, so that changes in the machine's speed affect all alike.
  Times are medians of all calls, with quartiles. They are wall-clock times, or on one thread, where a table says so,
  CPU times of the process, which other processes disturb less. Compiling is not part of them; the first call is in its
  own column.
- **The peak.** dgemm (sgemm for float32) is NumPy's product of two 2048 × 2048 matrices in the same turns. "Of dgemm"
  counts 14 N M D multiplications and additions for `Gaps` and 12 N M D for `Layers`: the products with states,
  adjoints and gradients that no order of computation can avoid. The N M activations come on top, and under `Gaps` the
  triangles inside groups; both weigh more the smaller D is.
- **Memory** is the peak of a process during its first call, minus what it held with its libraries and data before;
  compiling, or loading compiled kernels, is included.
- **Steps** are timed together, at most {together} without a frame between them, and divided by their number: small
  problems take several steps in one compiled call. A step has an evaluation, the move, its checks and the count of
  exchanges. The NumPy step computes the energy and moves all particles, and under `Gaps` their
  depths; it passes blocks of samples through the network, of the size that is fastest or fits in memory.
- **A flow's step** is timed in turns with bare calls of the kernel at the flow's first measure, in one process. The
  file is written to the system's temporary folder.
- **Programs:**
{peers}

To reproduce it: `make bench` takes about half an hour and writes `docs/benchmarks.json`, this page and its figures;
`python benchmarks/page.py` rewrites page and figures from that file. `python benchmarks/run.py --only steps` measures
one part and prints it; `--quick` is a rehearsal of about two minutes.
"""


def write(results: dict[str, Any], docs: Path) -> None:
    """Write the results as JSON, the page and its figures."""
    (docs / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (docs / "benchmarks.md").write_text(markdown(results), encoding="utf-8")
    from wgflow.report import style

    with style.styled():
        if "curves" in results:
            _figure(results, style).savefig(docs / "images" / "benchmarks.png", dpi=160)
        if "samples" in results:
            step_page.figure(results["samples"], style).savefig(docs / "images" / "benchmarks_samples.png", dpi=160)


def markdown(results: dict[str, Any]) -> str:
    """Benchmark page in Markdown."""
    import turns

    peers = "\n".join(
        f"  - {label}: {build.__doc__.split(': ')[-1].rstrip('.')}."
        for name, (label, build) in PROGRAMS.items()
        if name not in ("wgflow", "wgflow32", "dgemm", "sgemm")
    )
    parts = [INTRODUCTION.format(machine=_machine(results["machine"])), targets.section(results)]
    parts += [SECTIONS[name](results[name]) for name in SECTIONS if name in results]
    docs = Path(__file__).parents[1] / "docs"
    parts.append(gpu_page.section(gpu_page.load(docs), gpu_page.load(docs, "benchmarks_gpu_code")))
    parts.append(LIMITS)
    parts.append(METHOD.format(share=turns.SHARE, warm=turns.WARM, pause=turns.PAUSE, together=TOGETHER, peers=peers))
    return "\n".join(parts)


def _machine(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {versions}."


def _summary(table: list[dict[str, Any]]) -> str:
    lines = ["| case | time | against JAX's jit | of dgemm | float32 against float64 |", "|---|---:|---:|---:|---:|"]
    for row in table:
        case, timings = Case(**row["case"]), row["timings"]
        against = f"{ratio(timings, 'jax', 'wgflow'):.1f}×" if "jax" in timings else "not installed"
        lines.append(
            f"| {case.label} | {time_label(timings['wgflow']['median'])} | {against} "
            f"| {share(case, timings):.0%} | {ratio(timings, 'wgflow', 'wgflow32'):.2f}× |"
        )
    return "\n".join(lines) + "\n"


def _table(table: list[dict[str, Any]]) -> str:
    return "\n".join(["## One evaluation\n", _summary(table), *map(_case_table, table)])


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
        quartiles = f"{time_label(timing['low'])} to {time_label(timing['high'])}"
        lines.append(
            f"| {LABELS[name]} | {time_label(timing['median'])} | {quartiles} | {timing['calls']} "
            f"| {timing['median'] / timings['wgflow']['median']:.1f} | {timing['first']:.1f} s "
            f"| {timing['memory'] / 2**20:.0f} MiB | {timing['difference']:.0e} |"
        )
    peaks = ", ".join(f"{name} {PEAK / timings[name]['median'] / 1e9:.0f} GFLOP/s" for name in ("dgemm", "sgemm"))
    share32 = f"{share(case, timings, 'wgflow32', 'sgemm'):.0%} of sgemm in float32"
    return "\n".join(lines) + f"\n\n{peaks}; wgflow {share(case, timings):.0%} of dgemm, {share32}.\n"


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
        "| varied | range | program | time | exponent |",
        "|---|---|---|---:|---:|",
    ]
    for axis, rows in curves.items():
        first, last = rows[0], rows[-1]
        others = ", ".join(f"{AXES[name]} = {first['case'][name]}" for name in AXES if name != axis)
        sizes = f"{AXES[axis]} = {first['case'][axis]} to {last['case'][axis]}; {others}"
        for program in _curve_programs(rows):
            ends = " to ".join(time_label(row["timings"][program]["median"]) for row in (first, last))
            lines.append(
                f"| {AXES[axis]} | {sizes} | {LABELS[program]} | {ends} | {exponent(rows, axis, program):.2f} |"
            )
    return "\n".join(lines) + "\n"


def _curve_programs(rows: list[dict[str, Any]]) -> list[str]:
    return [name for name in ("wgflow", "jax") if name in rows[0]["timings"]]


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
        lines.append(
            f"| {Case(**row['case']).label} | {rule} | {time_label(1e-3 * times[chosen])} | {' | '.join(cells)} |"
        )
    return "\n".join(lines) + "\n"


def _figure(results: dict[str, Any], style: Any) -> Any:
    figure, axes = style.panels(2, width=6.2, height=4.2, rows=2)
    row = results["table"][0]
    case, timings = Case(**row["case"]), row["timings"]
    names = [name for name in LABELS if name in timings and name not in ("dgemm", "sgemm")][::-1]
    own, longest = timings["wgflow"]["median"], 1e3 * max(timings[name]["high"] for name in names)
    for place, name in enumerate(names):
        low, median, high = (1e3 * timings[name][quartile] for quartile in ("low", "median", "high"))
        colour = style.COLOURS[0] if name.startswith("wgflow") else style.INK
        axes[0].errorbar(median, place, xerr=[[median - low], [high - median]], fmt="o", color=colour)
        text = time_label(1e-3 * median) + (f", {1e-3 * median / own:.0f}×" if median >= 2e3 * own else "")
        axes[0].text(1.2 * high, place, text, va="center", fontsize=9.5)
    axes[0].set_yticks(range(len(names)), [LABELS[name] for name in names])
    axes[0].grid(axis="y", visible=False)
    axes[0].set(xscale="log", xlabel="time (ms), median and quartiles", title=f"One evaluation: {case.label}")
    axes[0].set(xlim=(0.5e3 * min(timings[name]["low"] for name in names), 5 * longest))
    for panel, (axis, rows) in zip(axes[1:], results["curves"].items(), strict=True):
        sizes = [each["case"][axis] for each in rows]
        for program in _curve_programs(rows)[::-1]:
            colour, mark = (style.COLOURS[0], "o") if program == "wgflow" else (style.COLOURS[1], "s")
            spent = [1e3 * each["timings"][program]["median"] for each in rows]
            label = f"{LABELS[program]}: ${AXES[axis]}^{{{exponent(rows, axis, program):.2f}}}$"
            panel.plot(sizes, spent, marker=mark, color=colour, label=label)
        others = ", ".join(f"{AXES[name]} = {rows[0]['case'][name]}" for name in AXES if name != axis)
        panel.set(
            xscale="log",
            yscale="log",
            xlabel=f"${AXES[axis]}$",
            ylabel="time (ms)",
            title=f"One evaluation: Gaps, {others}",
        )
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.legend(loc="upper left")
    return figure


SECTIONS: dict[str, Callable[[Any], str]] = {  # of the page, by part of the results, in this order
    "table": _table,
    "steps": step_page.steps,
    "samples": step_page.samples,
    "activation": step_page.activation,
    "curves": _curves,
    "flow": step_page.flow,
    "memory": _memory,
    "blocks": _blocks,
}

if __name__ == "__main__":
    place = Path(__file__).parents[1] / "docs"
    write(json.loads((place / "benchmarks.json").read_text(encoding="utf-8")), place)
