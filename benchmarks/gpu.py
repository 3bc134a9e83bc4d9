"""Compare the GPU backend with other libraries on a device; write docs/benchmarks_gpu.json and its page section.

Usage: python benchmarks/gpu.py [--all] [--parts a,b] [--quick] [--device cuda|cpu] [--out DIR] [--limit SECONDS]

Parts: doctor (devices and backends), tests (those marked gpu), sanitizer (compute-sanitizer on a small gradient), table
(all programs on the cases of the page), sizes (growth with N, M and D; tiles; where CPU and GPU take equally long).
--all runs all of them, within ten minutes; the default is the table. Without a device no file changes and the exit
code is 2. --quick is a rehearsal with small sizes, printed and not written; with --device cpu it needs no device.

PyTorch and JAX are used where they can be imported. Nothing has to be installed: PYTHONPATH=. is enough.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import gpu_page
import numpy as np
from cases import Case
from gpu_programs import PROGRAMS

HERE = Path(__file__).parent
PARTS = ("doctor", "table", "tests", "sanitizer", "sizes")
LIMITS = {"doctor": 30, "table": 320, "tests": 150, "sanitizer": 90, "sizes": 120}  # seconds at most
CASES = list(gpu_page.BARS)
QUICK = [Case("gaps", 24, 64, 8), Case("layers", 40, 64, 8, layers=4)]
LIBRARIES = ("wgflow", "torch", "jax")
ON_DEVICE_ONLY = ("torch_graph", "torch_compiled_graph")
N, M, D = (
    (lambda size: Case("gaps", size, 8192, 16)),
    (lambda size: Case("gaps", 1000, size, 16)),
    (lambda size: Case("gaps", 1000, 8192, size)),
)
CURVES = {
    "particles": [N(size) for size in (250, 1000, 4000)],
    "samples": [M(size) for size in (512, 2048, 8192, 32768)],
    "width": [D(size) for size in (4, 16, 64, 256)],
}
LEVEL = [Case("gaps", 256, samples, width) for width in (4, 16, 64) for samples in (64, 256, 1024, 4096, 16384)]
SMALL = """
import numpy as np, wgflow
from wgflow.kernels.gpu.backend import Gpu
rng = np.random.default_rng(0)
for depth in (wgflow.Gaps(), wgflow.Layers(4), wgflow.Deposit(5), wgflow.Shallow()):
    for dtype in ("float64", "float32"):
        problem = wgflow.Problem(rng.normal(size=(70, 9)), rng.normal(size=70))
        rho = wgflow.Particles(rng.normal(size=(40, 19)), (np.arange(40) + 0.5) / 40)
        print(wgflow.Energy(problem, depth, "gpu", dtype).velocity(rho).energy)
        energy = wgflow.Energy(problem, depth, "reference")
        kernel = Gpu(problem, dtype, layered=True)
        print(kernel.gradient(energy.depth.network(rho), rho.theta)[0])
noise = {"name": "langevin", "temperature": 0.01, "decay": 0.1}
for depth, options in (
    (wgflow.Gaps(), {"integrator": "rk4", "boundary": "reflect", "ingredients": [noise | {"tau_temperature": 0.01}]}),
    (wgflow.Gaps(), {"step": {"name": "descent"}, "mobility": {"a": 0.5}}),
    (wgflow.Deposit(5), {"integrator": "heun", "step": {"name": "adaptive"}}),
    (wgflow.Layers(4), {"batch": 20}),
):
    flow = wgflow.Flow(wgflow.Energy(problem, depth, "gpu", regulariser="quadratic"), **options)
    print([frame.energy for frame in flow.run(rho, until=0.5)][-1])
"""


class Clock:
    """Time limit of a command."""

    def __init__(self, limit: float) -> None:
        self._end = time.monotonic() + limit

    def left(self, most: float = float("inf")) -> float:
        """Seconds left, or ``most`` if that is less."""
        return max(1.0, min(most, self._end - time.monotonic()))


def machine(device: str) -> dict[str, Any]:
    """Machine and versions of the measurement."""
    names = ("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "jaxlib")
    found = {name: number for name in names if (number := installed(name))}
    about: dict[str, Any] = {"python": platform.python_version(), "versions": found, "date": str(datetime.date.today())}
    about["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if device == "cuda":
        from wgflow.kernels.gpu import diagnose

        state = diagnose.examine()
        about |= {"device": state.cards[0].name, "driver": state.release, "cuda": state.driver, "nvrtc": state.nvrtc}
    return about


def installed(package: str) -> str | None:
    """Version of a package, if it is installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def reference(case: Case, path: Path) -> None:
    """Energy and gradients in float64 on the CPU."""
    from programs import own

    program = own(case)
    energy, by_theta, by_weight = program.result(program.run())
    if by_weight is None:  # Layers: wgflow's velocities have no gradient in the weights, its kernels do
        from gpu_programs import double

        kernels = double(case, "cpu")
        by_weight = kernels.result(kernels.run())[2]
    np.savez(path, energy=energy, theta=by_theta, weight=by_weight)


def queue_of(library: str, cases: list[Case], device: str, names: tuple[str, ...] = ()) -> list[tuple[str, Case]]:
    """Programs of a library on all cases, one case after another."""
    mine = [name for name, each in PROGRAMS.items() if each.library == library and (not names or name in names)]
    mine = [name for name in mine if device != "cpu" or name not in ON_DEVICE_ONLY]
    return [(name, case) for case in cases for name in mine]


def work(queue: list[tuple[str, Case]], device: str, references: dict[str, str], seconds: float, limit: float) -> list:
    """Answers of one process to a queue of orders, within the time limit."""
    with tempfile.TemporaryDirectory() as folder:
        orders = Path(folder) / "orders.json"
        orders.write_text(
            json.dumps({"queue": queue, "device": device, "references": references, "seconds": seconds}),
            encoding="utf-8",
        )
        answers = Path(folder) / "answers"
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "CUPY_TF32": "0"}
        if device == "cpu":
            environment |= {"JAX_PLATFORMS": "cpu"}
        command = [sys.executable, str(HERE / "gpu_worker.py"), str(orders)]
        with answers.open("w", encoding="utf-8") as out:
            done = run_within(command, limit, stdout=out, env=environment)
        found = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    for name, case in queue[len(found) :]:
        late = "ran out of time" if done is None else f"its process ended with exit code {done}"
        found.append({"program": name, "case": case._asdict(), "error": late})
    for each in found:
        print(f"    {Case(**each['case']).label:44} {each['program']:22} {gpu_page.brief(each)}", file=sys.stderr)
    return found


def run_within(command: list[str], limit: float, **options: Any) -> int | None:
    """Exit code of a process; None if it exceeded its time limit and was stopped."""
    process = subprocess.Popen(command, **options)
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def table(cases: list[Case], device: str, clock: Clock, seconds: float) -> list[dict[str, Any]]:
    """All programs on all cases: references first, then a process for each library, wgflow's once more at the end."""
    with tempfile.TemporaryDirectory() as folder:
        references = {}
        for number, case in enumerate(cases):
            references[case.label] = f"{folder}/{number}.npz"
            reference(case, Path(references[case.label]))
        found = []
        there = [name for name in LIBRARIES if name == "wgflow" or importlib.util.find_spec(name)]
        for library in there:
            limit = clock.left(LIMITS["table"] * (0.2 if library == "wgflow" else 0.4))
            found += work(queue_of(library, cases, device), device, references, seconds, limit)
        again = queue_of("wgflow", cases, device, ("wgflow32",))
        repeated = work(again, device, references, seconds, clock.left(60))
    for one, other in zip([each for each in found if each["program"] == "wgflow32"], repeated, strict=True):
        if "error" not in other and "error" not in one:
            one["again"] = (other["events"] or other["clock"])[0]
    return found


def sizes(device: str, clock: Clock, quick: bool) -> dict[str, Any]:
    """Growth with N, M and D, tiles, and the sizes at which CPU and GPU take equally long."""
    seconds = 0.2
    curves = {axis: cases[:1] if quick else cases for axis, cases in CURVES.items()}
    if quick:
        curves = {axis: [QUICK[0]] for axis in CURVES}
    flat = [case for cases in curves.values() for case in cases]
    own = queue_of("wgflow", flat, device, ("wgflow32", "wgflow64"))
    level, tiled = (LEVEL[:2], QUICK) if quick else (LEVEL, CASES)
    return {
        "tiles": work(queue_of("tiles", tiled, device), device, {}, seconds, clock.left(40)),
        "curves": work(own, device, {}, seconds, clock.left(LIMITS["sizes"] / 2)),
        "gpu": work(queue_of("wgflow", level, device, ("velocity",)), device, {}, seconds, clock.left(40)),
        "cpu": work(queue_of("wgflow", level, "cpu", ("velocity",)), "cpu", {}, seconds, clock.left(40)),
    }


def doctor(clock: Clock) -> dict[str, Any]:
    """The doctor's report, with a gradient tried on the device."""
    command = [sys.executable, "-m", "wgflow.doctor", "--backend", "gpu", "--json"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=clock.left(LIMITS["doctor"] * 2))
    return json.loads(done.stdout) | {"exit": done.returncode}


def tests(clock: Clock, log: Path) -> dict[str, Any]:
    """The tests marked gpu; their output goes to a file."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "-q", "-ra",
               "--continue-on-collection-errors", "tests"]  # fmt: skip
    with log.open("w", encoding="utf-8") as out:
        done = run_within(command, clock.left(LIMITS["tests"]), stdout=out, stderr=out, cwd=HERE.parent)
    lines = log.read_text(encoding="utf-8").splitlines()
    return {"exit": done, "summary": lines[-1] if lines else ""}


def sanitizer(clock: Clock, log: Path) -> dict[str, Any]:
    """What compute-sanitizer finds in a small gradient of every scheme in both precisions."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return {"missing": "compute-sanitizer is not on the PATH"}
    found: dict[str, Any] = {}
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9", sys.executable, "-c", SMALL]
        with log.open("a", encoding="utf-8") as out:
            code = run_within(command, clock.left(LIMITS["sanitizer"] / 2), stdout=out, stderr=out, cwd=HERE.parent)
        said = [line for line in log.read_text(encoding="utf-8").splitlines() if "SUMMARY" in line]
        found[check] = {"exit": code, "summary": said[-1] if said else ""}
    return found


def usable() -> str:
    """Why the device cannot be used; empty if it can."""
    from wgflow.base.errors import BackendError
    from wgflow.kernels.gpu import diagnose

    try:
        diagnose.usable()
    except BackendError as error:
        return str(error)
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; 0, 1 if something failed, 2 without a device."""
    make = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    make.add_argument("--all", action="store_true", help="all parts")
    make.add_argument("--parts", default="table", help=f"some of {','.join(PARTS)} (default: table)")
    make.add_argument("--quick", action="store_true", help="small sizes, printed and not written")
    make.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal of --quick")
    make.add_argument("--out", type=Path, default=HERE.parent / "docs", help="where results go (default: docs)")
    make.add_argument("--limit", type=float, default=570.0, help="seconds within which to end (default: 570)")
    options = make.parse_args(arguments)
    parts = PARTS if options.all else tuple(options.parts.split(","))
    if unknown := set(parts) - set(PARTS):
        make.error(f"--parts: expected some of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    if options.device == "cpu" and not options.quick:
        make.error("--device cpu is a rehearsal, whose times mean nothing: use it with --quick")
    if options.device == "cuda" and (fault := usable()):
        print(f"{fault}\nnothing was measured, and the page was left as it is", file=sys.stderr)
        return 2
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    return measure(options, parts)


def measure(options: argparse.Namespace, parts: tuple[str, ...]) -> int:
    """Run the parts in turn; the results of each are written before the next one begins."""
    clock, seconds = Clock(options.limit), 0.1 if options.quick else 2.0
    folder = Path(tempfile.mkdtemp()) if options.quick else options.out
    kept = folder / "benchmarks_gpu.json"
    results: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    about = machine(options.device)
    if results.get("machine", {}).get("device") != about.get("device"):
        results = {}  # numbers of two devices do not go into one page
    results["machine"] = about
    todo: dict[str, Callable[[], Any]] = {
        "doctor": lambda: doctor(clock),
        "table": lambda: table(QUICK if options.quick else CASES, options.device, clock, seconds),
        "tests": lambda: tests(clock, folder / "gpu_tests.log"),
        "sanitizer": lambda: sanitizer(clock, folder / "gpu_sanitizer.log"),
        "sizes": lambda: sizes(options.device, clock, options.quick),
    }
    for part in parts:
        began = time.monotonic()
        results[part] = todo[part]()
        kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(gpu_page.section(results))
    wrong = gpu_page.failures(results)
    for line in wrong:
        print(line, file=sys.stderr)
    if not options.quick and not wrong:
        gpu_page.replace(folder / "benchmarks.md", results, gpu_page.load(folder, "benchmarks_gpu_code"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
