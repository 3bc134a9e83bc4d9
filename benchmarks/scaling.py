"""Time sweeps and one large run on 1 and 2 processes, and write docs/scaling.json, docs/scaling.md and its figure.

Usage: python benchmarks/scaling.py [--quick | --only PART ...]     (needs the extras `cluster`, `mpi`, `study`)

The parts are ``sweep``, ``ranks``, ``model``; about ten minutes on two free cores. --quick is a rehearsal with small
sizes, printed and not written; parts alone replace their part of the file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mpi
import numpy as np
import scaling_page
from run import machine

ROOT = Path(__file__).parents[1]
TURNS = 2  # of each way to run, alternating; the shortest counts
STUDY = """
name = "sweep"
figure = "none"
[problem]
name = "sine"
samples = {samples}
[particles]
count = 256
[flow]
step = 0.02
until = {until}
every = 1.0
[grid]
seed = [{seeds}]
"""
WAYS = {  # of running a sweep; the first is the yardstick
    "1 process": ["--jobs", "1"],
    "2 processes (--jobs 2)": ["--jobs", "2"],
    "1 Dask worker": ["--cluster", "local:1"],
    "2 Dask workers": ["--cluster", "local:2"],
}
SIZES = {"long": (32, 1000, 16.0), "tiny": (200, 8, 0.02)}  # members, M, last flow time
QUICK = {"long": (4, 100, 1.0), "tiny": (4, 8, 0.02)}
STUDIES = ("depth_width", "sizing")  # forecast on up to 1,000 workers


def sweep(quick: bool) -> dict[str, Any]:
    """Seconds of a study of equal members on one thread each, and of one whose members take next to no time."""
    out: dict[str, Any] = {}
    for name, (members, samples, until) in (QUICK if quick else SIZES).items():
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(1 if quick else TURNS):
            for way, options in WAYS.items():
                seconds[way].append(_run(STUDY.format(samples=samples, until=until, seeds=_list(members)), options))
        out[name] = {"members": members, "seconds": {way: min(each) for way, each in seconds.items()}}
        print(name, out[name], file=sys.stderr)
    return out


def _list(count: int) -> str:
    return ", ".join(map(str, range(count)))


def _run(study: str, options: list[str]) -> float:
    """Seconds of one run of a study, from the start of its process to the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sweep.toml"
        path.write_text(study, encoding="utf-8")
        begun = time.perf_counter()
        command = [sys.executable, "-m", "wgflow.sims.run", str(path), "--out", folder, "--threads", "1", "--quiet"]
        subprocess.run([*command, "--backend", "cpu", *options], check=True)
        return time.perf_counter() - begun


def ranks(quick: bool) -> dict[str, Any]:
    """Seconds of one evaluation on threads of one rank, and on ranks; see :mod:`mpi`."""
    sizes = (100, 2000, 16) if quick else (1000, 100_000, 16)
    seconds: dict[str, list[float]] = {}
    options = argparse.Namespace(particles=sizes[0], samples=sizes[1], width=sizes[2], calls=4)
    for _ in range(1 if quick else TURNS):
        for label, processes, threads in (("1 rank of 1", 1, 1), ("1 rank of 2", 1, 2), ("2 ranks of 1", 2, 1)):
            seconds.setdefault(label, []).extend(mpi.launch(processes, threads, options)[0])
    found = {label: min(each) for label, each in seconds.items()}
    print(found, file=sys.stderr)
    return {"sizes": sizes, "seconds": found}


def model(quick: bool) -> dict[str, Any]:
    """What the cost model needs: the time of an evaluation in its parts, and of each member of two studies."""
    import wgflow
    from wgflow.sims import command_line, forecast, preparation, rank_scaling

    particles, samples, width = (100, 2000, 16) if quick else (1000, 100_000, 16)
    rng = np.random.default_rng(0)
    problem = wgflow.Problem(rng.normal(size=(samples, width)), rng.normal(size=(samples, 1)))
    energy = wgflow.Energy(problem, threads=1)
    evaluation = rank_scaling.calibrate(
        energy, wgflow.Particles.draw(problem, particles), samples, 1, 1.0 if quick else 8.0
    )
    members = {}
    for name in ("quickstart",) if quick else STUDIES:
        options = command_line.parser().parse_args([name, "--threads", "1", "--backend", "cpu"])
        options.ranks = None  # this process alone
        run = preparation.prepare(options)
        seconds = forecast.member_seconds(run.planned, run.sizes, 1, "cpu")
        disk = sum(size.disk for size in run.sizes)
        members[name] = {"seconds": [float(f"{each:.4g}") for each in seconds], "disk": disk}
    return {"sizes": (particles, samples, width), "evaluation": evaluation._asdict(), "members": members}


PARTS = {"sweep": sweep, "ranks": ranks, "model": model}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    found = {name: PARTS[name](options.quick) for name in options.only}
    if options.quick:
        print(json.dumps(found, indent=1)[:2000])
        return
    path = ROOT / "docs" / "scaling.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    results = before | found | {"machine": machine()}
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    scaling_page.write(results, ROOT / "docs")


if __name__ == "__main__":
    main()
