"""Tables of docs/scaling.md and its figure, from docs/scaling.json and the cost model.

Usage: python benchmarks/scaling_page.py     rewrites the parts of docs/scaling.md between its markers, and the figure
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pipeline_model
import step_page
from pipeline_model import Node, Run

import wgflow
from wgflow.kernels.cpu import grouped
from wgflow.sims import rank_scaling, sweep_scaling
from wgflow.sims.dry_run import in_words
from wgflow.sims.interconnect import ETHERNET, INFINIBAND
from wgflow.sims.rank_scaling import Evaluation

SAMPLES = (10**5, 10**7, 10**9)  # of the forecasts
MOST = 1000  # workers and ranks
PARAMETERS, NODES, DEPTH_SAMPLES, WIDTH = 1e10, 16, (10**2, 10**3, 10**4, 10**5, 10**6), 64
LAYERS = 100  # where particles of layers are divided


def time_label(seconds: float) -> str:
    """Duration: to three digits up to a minute, in words beyond."""
    return in_words(seconds) if seconds >= 60 else step_page.time_label(seconds)


def power(number: float) -> str:
    """Power of ten."""
    return "10" + str(round(math.log10(number))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def gigabytes(size: float) -> str:
    """Bytes in GB, to two digits."""
    return f"{size / 1e9:.2g} GB" if size < 1e10 else f"{size / 1e9:.0f} GB"


def measured(results: dict[str, Any]) -> str:
    """Table of what was measured on 1 and 2 processes."""
    about = results["machine"]
    where = f"{about['processor']}, {about['cores']} cores, Python {about['python']}"
    lines = [f"Measured on {where}: the shortest of two turns, starts included.\n"]
    lines += ["| what | how | seconds | efficiency |", "|---|---|---:|---:|"]
    text = []
    if "sweep" in results:
        for case in results["sweep"].values():
            lines += _ways(f"study of {case['members']} members", case["seconds"])
        text += [_start(results["sweep"]["long"]["seconds"]), _overhead(results["sweep"]["tiny"])]
    if "ranks" in results:
        sizes, seconds = results["ranks"]["sizes"], results["ranks"]["seconds"]
        lines += _ways(f"evaluation, N, M, D = {', '.join(map(str, sizes))}", seconds)
        ratio = seconds["2 ranks of 1"] / seconds["1 rank of 2"]
        text.append(f"Two ranks of one thread take {ratio:.2f} times as long as one rank of two threads.")
    return "\n".join([*lines, "", *text]) if text else "Not measured."


def _ways(what: str, seconds: dict[str, float]) -> list[str]:
    """Rows of ways to do the same; efficiency is that of the first, by the processors in use."""
    alone = next(iter(seconds.values()))
    shares = {way: alone / each / (2 if "2" in way else 1) for way, each in seconds.items()}
    return [f"| {what} | {way} | {seconds[way]:.3g} | {share:.0%} |" for way, share in shares.items()]


def _start(seconds: dict[str, float]) -> str:
    """Sentence about the start of Dask, and about two workers without it."""
    alone, one, two = (seconds[way] for way in ("1 process", "1 Dask worker", "2 Dask workers"))
    start = one - alone
    return (
        f"One Dask worker takes {start:.1f} s longer than one process, most of it to start; without this two are "
        f"{alone / (2 * (two - start)):.0%} efficient."
    )


def _overhead(tiny: dict[str, Any]) -> str:
    """Sentence about members that take next to no time."""
    alone, one, two = (tiny["seconds"][way] for way in ("1 process", "1 Dask worker", "2 Dask workers"))
    return (
        f"A member of next to no time takes {1e3 * alone / tiny['members']:.0f} ms in one process and "
        f"{1e3 * one / tiny['members']:.0f} ms on one Dask worker, {1e3 * two / tiny['members']:.0f} ms on two."
    )


def evaluation(results: dict[str, Any], samples: int) -> Evaluation:
    """Cost of an evaluation as measured, for another number of samples."""
    found, (particles, _, width) = results["model"]["evaluation"], results["model"]["sizes"]
    problem = wgflow.Problem(np.zeros((1, width)), np.zeros((1, 1)))
    rho = wgflow.Particles.draw(problem, particles)
    return rank_scaling.divided(wgflow.Energy(problem, threads=1), rho, samples, found["alone"], found["sample"])


def forecast(results: dict[str, Any]) -> str:
    """Knees of two studies and of one evaluation, by the model."""
    lines = ["| study | members | one worker | longest member | workers worth having | on these | beyond |"]
    lines += ["|---|---:|---:|---:|---:|---:|---|"]
    for name, (seconds, disk) in studies(results).items():
        best, limit = sweep_scaling.worthwhile(seconds, disk)
        cells = [name, len(seconds), in_words(sum(seconds)), time_label(max(seconds)), best.workers]
        lines.append(f"| {' | '.join(map(str, cells))} | {time_label(best.seconds)} | {limit} |")
    particles, _, width = results["model"]["sizes"]
    text = (
        f"\nWorkers of one thread; worth having means an efficiency of at least {sweep_scaling.WORTH:.0%}. One "
        f"evaluation at N = {particles}, D = {width}, with ranks of one thread:\n"
    )
    lines += [
        text,
        "| M | memory of a rank | network (assumed) | one rank | ranks worth having | on these | beyond |",
        "|---:|---:|---|---:|---:|---:|---|",
    ]
    for samples in SAMPLES:
        one = evaluation(results, samples)
        alone = one.alone + one.passes(1)
        for network in (INFINIBAND, ETHERNET):
            best, limit = rank_scaling.worthwhile(alone, 1, one, 1, network)
            name = f"{network.name}, {1e6 * network.latency:.0f} µs"
            memory = grouped.memory(particles, samples, width, 1, 1) + 2 * 8 * samples * (width + 1)
            cells = [power(samples), gigabytes(memory), name, time_label(alone), str(best.ranks)]
            lines.append(f"| {' | '.join(cells)} | {time_label(best.seconds)} | {limit} |")
    return "\n".join(lines)


def pipeline(_: dict[str, Any]) -> str:
    """Pipeline against streaming, for particles beyond one memory."""
    node = Node()
    run = Run(PARAMETERS / (2 * WIDTH + 1), 1, WIDTH)
    copies = run.memory() / run.size
    largest = node.memory / run.memory() * PARAMETERS
    speed = f"{node.flops / 1e12:g} TFLOP/s, {node.memory / 1e9:g} GB, disk {node.disk / 1e9:g} GB/s"
    text = (
        f"By the model, for nodes of {speed}, {node.network.name} (all assumed), at D = {WIDTH}: a step holds "
        f"{copies:.0f} arrays of N P numbers, so that N P = {largest / 1e9:.1f} · 10⁹ fills a node. For N P = "
        f"{power(PARAMETERS)} on {NODES} nodes, time of one evaluation:\n"
    )
    lines = [
        text,
        f"| M | streaming | pipeline | S, B | bubble | streaming / pipeline | particles of {LAYERS} layers divided |",
        "|---:|---:|---:|---|---:|---:|---:|",
    ]
    for samples in DEPTH_SAMPLES:
        run = Run(PARAMETERS / (2 * WIDTH + 1), samples, WIDTH)
        disk, depth = pipeline_model.streaming(run, node, NODES), pipeline_model.best_pipeline(run, node, NODES)
        cells = [power(samples), time_label(disk.seconds)]
        if depth is None:
            cells += ["no micro-batch fits", "", "", ""]
        else:
            cells += [time_label(depth.seconds), f"{depth.stages}, {depth.batches}", f"{depth.bubble:.0%}"]
            cells += [f"{disk.seconds / depth.seconds:.1f}"]
        layers = pipeline_model.layerwise(run, node, NODES, LAYERS)
        lines.append(f"| {' | '.join([*cells, time_label(layers.seconds) if layers else 'do not fit'])} |")
    lines += ["", f"Streaming is hidden from {pipeline_model.even(node, WIDTH):.0f} samples a node on."]
    return "\n".join(lines)


def studies(results: dict[str, Any]) -> dict[str, tuple[list[float], float]]:
    """Seconds of the members of two studies as measured and of one that is made up, and bytes of their files."""
    minute = 60 * np.exp(0.5 * np.random.default_rng(0).normal(size=1000))
    found = {f"`{name}`": (each["seconds"], each["disk"]) for name, each in results["model"]["members"].items()}
    return found | {"1,000 of about a minute": (minute.tolist(), 1e9)}


def draw(results: dict[str, Any], style: Any) -> Any:
    """Efficiency of sweeps by workers, and of one evaluation by ranks, with their knees."""
    figure, (left, right) = style.panels(2, width=6.2, height=4.2)
    for colour, (name, (seconds, disk)) in zip(style.COLOURS, studies(results).items(), strict=False):
        counts = np.unique(np.geomspace(1, MOST, 60).astype(int))
        share = [100 * sweep_scaling.sweep(seconds, disk, int(count)).efficiency for count in counts]
        best, _ = sweep_scaling.worthwhile(seconds, disk)
        left.plot(counts, share, color=colour, label=f"{name.strip('`')}: {best.workers}")
        left.plot(best.workers, 100 * best.efficiency, "o", color=colour)
    for colour, samples in zip(style.COLOURS, SAMPLES, strict=False):
        one = evaluation(results, samples)
        alone = one.alone + one.passes(1)
        for network, line in ((INFINIBAND, "-"), (ETHERNET, "--")):
            counts = np.unique(np.geomspace(1, MOST, 150).astype(int))
            spent = [rank_scaling.forecast(alone, 1, one, int(ranks), 1, network).seconds for ranks in counts]
            best, _ = rank_scaling.worthwhile(alone, 1, one, 1, network)
            label = f"M = $10^{{{round(np.log10(samples))}}}$: {best.ranks}"
            right.plot(counts, spent, line, color=colour, label=label if network is INFINIBAND else None)
            right.plot(best.ranks, best.seconds, "o", color=colour)
    particles, _, width = results["model"]["sizes"]
    left.axhline(100 * sweep_scaling.WORTH, color=style.GREY, lw=0.8)
    left.set(title="Sweeps", xlabel="workers of one thread", ylabel="efficiency (%)", ylim=(0, 105))
    title = f"One evaluation, N = {particles}, D = {width}; dashed: slow network"
    right.set(title=title, xlabel="ranks of one thread", ylabel="time (s)", yscale="log")
    for panel, place in ((left, (0.38, 0.6)), (right, (0.68, 0.7))):
        panel.set(xscale="log", xlim=(0.9, 1.1 * MOST))
        panel.legend(title="worth having", loc=place, alignment="left", fontsize=9, title_fontsize=9)
    return figure


BLOCKS = {"measured": measured, "forecast": forecast, "pipeline": pipeline}


def filled(text: str, results: dict[str, Any]) -> str:
    """The page with the parts between its markers written anew."""
    for name, make in BLOCKS.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        before, end = re.search(pattern, text, flags=re.DOTALL).groups()
        text = re.sub(pattern, "\0", text, flags=re.DOTALL).replace("\0", f"{before}{make(results)}\n{end}")
    return text


def write(results: dict[str, Any], docs: Path) -> None:
    """Rewrite the page and its figure."""
    from wgflow.report import style

    page = docs / "scaling.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    with style.styled():
        draw(results, style).savefig(docs / "images" / "scaling.png", dpi=160)


if __name__ == "__main__":
    place = Path(__file__).parents[1] / "docs"
    write(json.loads((place / "scaling.json").read_text(encoding="utf-8")), place)
