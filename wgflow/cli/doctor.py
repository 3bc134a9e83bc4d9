"""What this machine offers and what wgflow will use of it: ``wgflow doctor``.

Exit codes: 0 what was asked for works, 1 internal error, 2 the backend asked for with ``--backend`` cannot be used, or
bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata

from wgflow.base.errors import BackendError, WgflowError
from wgflow.base.exit_codes import BAD_INPUT, DONE
from wgflow.base.extras import install
from wgflow.base.registry import check_name
from wgflow.base.terminal import Parser, console, execute, printable, say, show
from wgflow.base.types import Spec

NEEDED = ("numpy", "scipy", "numba", "llvmlite", "h5py", "pydantic", "rich", "threadpoolctl")
OPTIONAL = {  # package: the extra that brings it
    "matplotlib": "study",
    "scikit-learn": "study",
    "xarray": "xarray",
    "h5netcdf": "xarray",
    "POT": "ot",
    "cvxpy": "convex",
    "torch": "cifar",
    "distributed": "cluster",
}
AGREEMENT = 1e-12  # relative, of float64 kernels with their definition


def report() -> Spec:
    """Versions, processors, GPU and chosen backends of this machine, as plain JSON.

    Returns
    -------
    dict
        Sections ``software``, ``optional``, ``cpu``, ``gpu`` and ``use``; the last is what each backend comes to and
        why. Nothing is downloaded and no kernel of the CPU is compiled.
    """
    import h5py
    import scipy.linalg  # noqa: F401 # its BLAS is a library of its own, seen once it is loaded
    from threadpoolctl import threadpool_info

    import wgflow
    from wgflow.kernels import cache
    from wgflow.kernels.cpu.threads import available_threads
    from wgflow.kernels.gpu import diagnose

    folder = cache.folder()
    state = diagnose.examine()
    gpu = state._asdict() | {"cards": [card._asdict() for card in state.cards]}
    return {
        "software": {
            "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
            "wgflow": wgflow.__version__,
            **{name: _version(name) for name in NEEDED},
            "HDF5": h5py.version.hdf5_version,
        },
        "optional": {name: _version(name) for name in OPTIONAL},
        "cpu": {
            "cores": os.cpu_count(),
            "threads": available_threads(),
            "blas": [
                f"{library['internal_api']} {library['version']}, {library['num_threads']} threads"
                for library in threadpool_info()
                if library["user_api"] == "blas"
            ],
            "numba threading layer": "not used",
            "cache": str(folder or ""),
            "cached kernels": len(list(folder.rglob("*.nbc"))) if folder else 0,
            "kernels": cache.fingerprint(),
        },
        "gpu": gpu,
        "use": _use(gpu, available_threads()),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _use(gpu: Spec, threads: int) -> Spec:
    """One line a backend: what it would use, or why it cannot be had."""
    from wgflow.kernels.auto import THRESHOLD

    if not gpu["fault"]:
        auto = f"gpu where M D >= {THRESHOLD} (a bound that was not measured), else cpu"
    else:
        auto = "cpu, since the GPU cannot be used" if gpu["wheels"] else "cpu: CuPy is not installed"
    name = gpu["cards"][0]["name"] if gpu["cards"] else ""
    return {
        "cpu": f"compiled kernels on {threads} {'thread' if threads == 1 else 'threads'}; results do not depend on "
        "their number",
        "gpu": f"no: {gpu['fault']}" if gpu["fault"] else f"{name}: a kernel compiled and ran",
        "auto": auto,
    }


def attempt(backend: str) -> str:
    """Compute a small gradient on a backend and hold it against the definition.

    Parameters
    ----------
    backend : {"cpu", "gpu", "reference", "auto"}
        What to try.

    Returns
    -------
    str
        What was compared, and how near it came.

    Raises
    ------
    BackendError
        If the backend cannot be had, or its numbers are wrong by more than 1e-12 of the largest.
    """
    import numpy as np

    import wgflow

    generator = np.random.default_rng(1)
    problem = wgflow.Problem(generator.normal(size=(40, 5)), generator.normal(size=40))
    rho = wgflow.Particles.draw(problem, 24, seed=1, tau="uniform")
    energy = wgflow.Energy(problem, backend=backend)
    found = energy.velocity(rho)
    defined = wgflow.Energy(problem, backend="reference").velocity(rho)
    largest = np.abs(defined.theta).max()
    difference = max(np.abs(found.theta - defined.theta).max() / largest, abs(found.energy / defined.energy - 1))
    if not difference <= AGREEMENT:
        raise BackendError(
            f"backend {backend!r}: a small gradient is off by {difference:.1e} of its largest entry; do not use it, "
            "and report it with the output of wgflow doctor --json"
        )
    return f"backend {energy.backend}: a small gradient agrees with its definition to {difference:.0e}"


def _print(found: Spec) -> None:
    """Print a report as a table, every value in words."""
    from rich.table import Table
    from rich.text import Text

    cpu, count = found["cpu"], found["cpu"]["cached kernels"]
    cached = f"{cpu['cache']}, {f'{count} compiled kernels' if count else 'nothing compiled yet'}"
    no_cache = "none: WGFLOW_CACHE=off, or no folder that can be written; kernels are compiled in every process"
    sections = {
        "software": {name: version or "not installed" for name, version in found["software"].items()},
        "optional packages": {
            name: version or f"not installed; {install(OPTIONAL[name])} brings it"
            for name, version in found["optional"].items()
        },
        "cpu": {
            "cores": f"{cpu['cores']}, of which this process may use {cpu['threads']}",
            "BLAS": "; ".join(cpu["blas"]) or "none found",
            "Numba threads": "not used: wgflow has threads of its own, which survive a fork",
            "kernel cache": cached if cpu["cache"] else no_cache,
        },
        "gpu": _gpu_rows(found["gpu"]),
        "what will be used": {f"--backend {name}": text for name, text in found["use"].items()},
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, rows in sections.items():
        table.add_row(Text(title, "bold"), "")
        for name, value in rows.items():
            table.add_row(f"  {name}", printable(value))
    console(width=None).print(table)


def _gpu_rows(gpu: Spec) -> dict[str, str]:
    wheels = ", ".join(f"{name} {version}" for name, version in gpu["wheels"].items())
    driver = f"{gpu['release']} ".lstrip() + f"for CUDA {gpu['driver']}" if gpu["driver"] else "none found"
    rows = {
        "CuPy": wheels or f"not installed; {install('gpu12')}, or gpu13, brings it",
        "driver": driver,
        "CUDA of CuPy": gpu["runtime"] or "not checked",
        "NVRTC": gpu["nvrtc"] or "not found",
        "CUDA headers": gpu["headers"] or "not found (wgflow's kernels need none)",
    }
    for number, card in enumerate(gpu["cards"]):
        memory = f"{card['free'] / 2**30:.1f} of {card['memory'] / 2**30:.1f} GiB free"
        sizes = f"compute capability {card['capability']}, {card['processors']} multiprocessors, {memory}"
        rows[f"device {number}"] = f"{card['name']}, {sizes}"
    return rows if gpu["cards"] else rows | {"devices": "none"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    make = Parser(prog="wgflow doctor", description="Show what this machine offers and what will be used.")
    make.add_argument("--backend", metavar="auto|cpu|reference|gpu",
                      help="also compute a small gradient on it; exit code 2 if it cannot be used")  # fmt: skip
    make.add_argument("--json", action="store_true", help="print the report as JSON")
    return execute(make, _run, arguments)


def _run(options: argparse.Namespace) -> int:
    from wgflow.kernels.select import CHOICES

    if options.backend is not None:
        check_name("backend", options.backend, CHOICES)
    found = report()
    fault, agreement = "", ""
    if options.backend == "gpu" and found["gpu"]["fault"]:
        fault = f"backend 'gpu': {found['gpu']['fault']}; or use --backend cpu"
    elif options.backend is not None:
        try:
            agreement = attempt(options.backend)
        except WgflowError as error:
            fault = str(error)
    if options.json:
        asked = {"asked": {"backend": options.backend, "tried": agreement, "fault": fault}} if options.backend else {}
        show(json.dumps(found | asked, indent=2))
    else:
        _print(found)
        if agreement:
            show(agreement)
    if fault:
        say(fault)
    return BAD_INPUT if fault else DONE
