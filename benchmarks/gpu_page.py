"""Section of the benchmark page about GPUs, from docs/benchmarks_gpu.json, which exists once measured.

What the compiler made of the kernels needs no GPU: docs/benchmarks_gpu_code.json, by gpu_code.py.

Usage: python benchmarks/gpu_page.py     writes that part of docs/benchmarks.md again
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from cases import Case
from gpu_peers import CHUNK
from gpu_programs import ALLOWED, COPIED, PROGRAMS, SIDE, STEPS

BARS = {  # what the project set out to reach: times the best of the others, share of sgemm
    Case("gaps", 1000, 8192, 16): (20, None),
    Case("layers", 25600, 8192, 256, layers=100): (1.2, None),
    Case("gaps", 4096, 16384, 64): (10, 0.40),
}
LABELS = {
    name: each.label
    for name, each in PROGRAMS.items()
    if each.library != "tiles" and name not in ("sgemm", "dgemm", "copy")
}
RIVALS = tuple(name for name in LABELS if PROGRAMS[name].library != "wgflow")
FLOPS = 2 * SIDE**3  # of sgemm and dgemm
NONE = "not measured"
HEADING = "## On a GPU"

METHOD = """\
One evaluation in float32, E with its gradient in every particle and layer weight; parameters and results stay
on the device, and TF32 is off everywhere. Before a program is timed, its energy and gradients are compared with
wgflow's in float64 on the CPU: a program that differs by more than {allowed:.0e} of the largest entry is not timed
(products in float32 differ by 5e-7, with TF32's rounding by 3e-4). Each library runs in its own process, with the
device to itself, one after the other in one command; wgflow is timed again at the end. Times are medians of up to
200 calls between device events, which include the gaps between launches. JAX has no events: its calls are timed by
the wall clock until `block_until_ready` returns, and compared with wgflow timed by the same clock. PyTorch
compiles {chunk} layers at a time; as a CUDA graph the whole evaluation, forwards and backwards, is captured and
replayed. sgemm is the library's product of two {side} × {side} matrices (checked not to be TF32); "of sgemm"
counts 14 N M D multiplications and additions for `Gaps`, 12 N M D for `Layers`.
""".format(allowed=ALLOWED["float32"], chunk=CHUNK, side=SIDE)


CODE = """\
### What the code allows

Counts, not times: inner loops of the pass in {precision} as compiled for {architecture}, by
`python benchmarks/gpu_code.py`. A multiprocessor issues four instructions a cycle, so that no loop can reach more
of the peak than its share of multiply-adds. Instructions outside of the loops add to this: in a product, each thread
executes some 80 more for its 4 × 4 numbers, and not every thread has work in every step. `add_outer` computes the
products with states and adjoints, `add_inner` the sums over samples, `add_rows` the triangles inside a group. A read
of 16 bytes per thread takes two cycles of shared memory (a test counts them from the addresses). Reads take as long as
the arithmetic at its peak in the first two, and more than twice as long in the triangles, which are therefore bound by
reads.
"""


def load(docs: Path, name: str = "benchmarks_gpu") -> dict[str, Any] | None:
    """Stored results; None if there are none."""
    path = docs / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def replace(page: Path, results: dict[str, Any] | None, counted: dict[str, Any] | None) -> None:
    """Rewrite the section of the page, if there is a page."""
    if page.is_file():
        text = page.read_text(encoding="utf-8")
        begun = text.index(HEADING)
        rest = re.search(r"^## ", text[begun + 3 :], re.M)
        end = begun + 3 + rest.start() if rest else len(text)
        page.write_text(text[:begun] + section(results, counted) + "\n" + text[end:], encoding="utf-8")


def section(results: dict[str, Any] | None, counted: dict[str, Any] | None = None) -> str:
    """Heading, tables and method; missing results appear as "not measured"."""
    allowed = code(counted) if counted else []
    if results is None or "table" not in results:
        return "\n".join([HEADING, "", _nothing(), "", METHOD, *allowed])
    rows = _by_case(results["table"])
    parts = [HEADING, "", _machine(results["machine"]), "", *_summary(rows), ""]
    for case, found in rows.items():
        parts += [f"### {case.label}\n", *_case(found), ""]
    if "sizes" in results:
        parts += [*_sizes(results["sizes"]), ""]
    return "\n".join([*parts, *_checks(results), "", METHOD, *allowed])


def code(counted: dict[str, Any]) -> list[str]:
    """Table of the inner loops as compiled."""
    lines = [
        CODE.format(**counted),
        "| loop | in | loops | instructions | multiply-adds | share | reads, shared | global |",
    ]
    lines.append("|---|---|---:|---:|---:|---:|---:|---:|")
    for each in counted["loops"]:
        share = each["multiplications"] / each["instructions"]
        counts = each["loops"], each["instructions"], each["multiplications"]
        reads = each["shared"], each["global"]
        numbers = " | ".join(str(number) for number in (*counts, f"{share:.0%}", *reads))
        lines.append(f"| `{each['function']}` | {each['file']} | {numbers} |")
    return [*lines, ""]


def failures(results: dict[str, Any]) -> list[str]:
    """Failures of wgflow's programs, the tests and the sanitizer. Other libraries may run out of memory."""
    wrong = []
    for row in results.get("table", []):
        if "error" in row and row["program"] not in RIVALS:
            wrong.append(f"{row['program']} on {Case(**row['case']).label}: {row['error']}")
    if results.get("doctor", {}).get("exit", 0):
        wrong.append(f"doctor: {results['doctor']['asked']['fault']}")
    if results.get("tests", {}).get("exit", 0) != 0:
        wrong.append(f"tests: {results['tests']['summary']}")
    for name, found in results.get("sanitizer", {}).items():
        if name != "missing" and found["exit"] != 0:
            wrong.append(f"{name}: exit code {found['exit']}, {found['summary']}")
    return wrong


def brief(row: dict[str, Any]) -> str:
    """Short result of one program on one case."""
    return row["error"] if "error" in row else f"{spoken(_seconds(row))}  difference {_off(row)}"


def spoken(seconds: float) -> str:
    """Duration with its unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            return f"{seconds * scale:.3g} {unit}"
    raise AssertionError


def ratio(own: dict[str, Any], other: dict[str, Any]) -> float:
    """Time relative to wgflow's; both by events, or both by the clock."""
    how = "events" if own["events"] and other["events"] else "clock"
    return other[how][0] / own[how][0]


def _nothing() -> str:
    lines = [
        f"**{NONE}**: no GPU was available. `python benchmarks/gpu.py --all` on a machine with one adds the results;",
        "nothing here is estimated.",
        "",
        *_head(),
    ]
    for case, bars in BARS.items():
        lines.append(f"| {case.label} | {NONE} | {NONE} | {NONE}{_bar(bars[0], '×')} | {NONE}{_bar_share(bars[1])} |")
    return "\n".join([*lines, "", "In brackets what the project set out to reach."])


def _head() -> list[str]:
    return ["| case | wgflow | best of PyTorch and JAX | ratio | of sgemm |", "|---|---:|---|---:|---:|"]


def _bar(value: float | None, unit: str) -> str:
    return f" ({value:g}{unit})" if value else ""


def _bar_share(value: float | None) -> str:
    return _bar(round(100 * value), "%") if value else ""


def _machine(about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    device = f"{about['device']}, driver {about['driver']}, CUDA {about['cuda']}" if "device" in about else "no device"
    return f"{device}; {about['cores']} cores, Python {about['python']}, {versions}. Measured on {about['date']}."


def _by_case(table: list[dict[str, Any]]) -> dict[Case, dict[str, dict[str, Any]]]:
    found: dict[Case, dict[str, dict[str, Any]]] = {}
    for row in table:
        found.setdefault(Case(**row["case"]), {})[row["program"]] = row
    return found


def _seconds(row: dict[str, Any]) -> float:
    return (row["events"] or row["clock"])[0]


def _off(row: dict[str, Any]) -> str:
    return "" if row["difference"] is None else f"{row['difference']:.0e}"


def _summary(rows: dict[Case, dict[str, dict[str, Any]]]) -> list[str]:
    lines = _head()
    for case, found in rows.items():
        own, peak = found["wgflow32"], found.get("sgemm", {"error": ""})
        times, part = BARS.get(case, (None, None))
        rivals = {name: found[name] for name in RIVALS if name in found and "error" not in found[name]}
        time = best = quotient = share = NONE
        if "error" not in own:
            time = spoken(_seconds(own))
            if rivals:
                name = min(rivals, key=lambda each: ratio(own, rivals[each]))
                best = f"{LABELS[name]}: {spoken(_seconds(rivals[name]))}"
                quotient = f"{ratio(own, rivals[name]):.1f}×"
            if "error" not in peak and own["events"]:
                share = f"{case.flops / _seconds(own) / (FLOPS / _seconds(peak)):.0%}"
        bars = _bar(times, "×"), _bar_share(part)
        lines.append(f"| {case.label} | {time} | {best} | {quotient}{bars[0]} | {share}{bars[1]} |")
    return [*lines, "", "In brackets what the project set out to reach."]


def _case(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        "| program | events | quartiles | by the clock | calls | times wgflow | first call | memory | difference |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    own = found["wgflow32"]
    for name, label in LABELS.items():
        if name not in found:
            continue
        row = found[name]
        if "error" in row:
            lines.append(f"| {label} | {row['error'].replace('|', '/')} |" + " |" * 7)
            continue
        clock = row["clock"][0] / (STEPS if name == "steps" else 1)
        events = spoken(row["events"][0]) if row["events"] else ""
        spread = " to ".join(spoken(each) for each in row["events"][1:]) if row["events"] else ""
        times = f"{ratio(own, row):.1f}" if name in RIVALS and "error" not in own else ""
        lines.append(
            f"| {label} | {events} | {spread} | {spoken(clock)} | {row['calls']} | {times} | {row['first']:.1f} s "
            f"| {row['memory'] / 2**20:.0f} MiB | {_off(row)} |"
        )
    return [*lines, "", _peaks(found)]


def _peaks(found: dict[str, dict[str, Any]]) -> str:
    said = []
    for name in ("sgemm", "dgemm"):
        if name in found and "error" not in found[name] and found[name]["events"]:
            said.append(f"{name} {FLOPS / _seconds(found[name]) / 1e12:.1f} TFLOP/s")
    if "copy" in found and "error" not in found["copy"] and found["copy"]["events"]:
        said.append(f"a copy {2 * COPIED / _seconds(found['copy']) / 1e12:.2f} TB/s, read and written")
    if "again" in found.get("wgflow32", {}):
        said.append(f"wgflow timed again at the end {spoken(found['wgflow32']['again'])}")
    return "; ".join(said) + "." if said else ""


def _sizes(sizes: dict[str, Any]) -> list[str]:
    lines = ["### Growth, tiles, and where CPU and GPU are level\n", "| case | float32 | float64 |", "|---|---:|---:|"]
    for case, found in _by_case(sizes["curves"]).items():
        cells = [brief_time(found.get(name)) for name in ("wgflow32", "wgflow64")]
        lines.append(f"| {case.label} | {' | '.join(cells)} |")
    tiles = _by_case(sizes["tiles"])
    names = list(dict.fromkeys(name for found in tiles.values() for name in found))
    lines += ["", f"| case | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for case, found in tiles.items():
        lines.append(f"| {case.label} | {' | '.join(brief_time(found.get(name)) for name in names)} |")
    lines += ["", "`Energy.velocity` from NumPy to NumPy, float32:\n", "| case | CPU | GPU |", "|---|---:|---:|"]
    cpu, gpu = _by_case(sizes["cpu"]), _by_case(sizes["gpu"])
    for case in cpu:
        cells = [brief_time(each.get(case, {}).get("velocity"), "clock") for each in (cpu, gpu)]
        lines.append(f"| {case.label}, M D = {case.samples * case.width} | {' | '.join(cells)} |")
    return lines


def brief_time(row: dict[str, Any] | None, how: str = "events") -> str:
    """Time of a row, or "not measured"."""
    if row is None or "error" in row:
        return NONE
    return spoken((row[how] or row["clock"])[0])


def _checks(results: dict[str, Any]) -> list[str]:
    lines = []
    if "tests" in results:
        lines.append(f"- Tests marked `gpu`: {results['tests']['summary'].strip('= ')}.")
    for name, found in results.get("sanitizer", {}).items():
        said = found if name == "missing" else f"{name}: {found['summary'].strip('= ')}, exit code {found['exit']}"
        lines.append(f"- compute-sanitizer: {said}.")
    return lines


if __name__ == "__main__":
    place = Path(__file__).parents[1] / "docs"
    replace(place / "benchmarks.md", load(place), load(place, "benchmarks_gpu_code"))
