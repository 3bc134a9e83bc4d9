"""Choice of the backend for ``backend="auto"``: a working GPU if the problem is large enough, else the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wgflow.base.errors import BackendError
from wgflow.kernels.codes import NOT_COMPILED
from wgflow.kernels.cpu.backend import compilable
from wgflow.kernels.gpu import diagnose
from wgflow.kernels.gpu.backend import Gpu
from wgflow.kernels.gpu.device import Device, current
from wgflow.kernels.gpu.machine import HERE, Machine
from wgflow.model.problem import Problem

# Samples times width from which the GPU is used. Conservative, not measured on a device: the smallest problem in
# the benchmark table for GPUs (M, D = 8192, 16). `python benchmarks/gpu.py` measures where the backends break even.
THRESHOLD = 2**17

logger = logging.getLogger("wgflow.kernels")


class Choice(NamedTuple):
    """Result of ``auto``.

    Attributes
    ----------
    backend : {"cpu", "gpu"}
        The backend to use.
    reason : str
        The reason, for the user.
    broken : bool
        Whether CuPy is installed but cannot be used, which the user should know.
    """

    backend: str
    reason: str
    broken: bool = False


def choose_backend(
    problems: Iterable[tuple[Problem, str]], machine: Machine = HERE, device: Callable[[], Device] = current
) -> Choice:
    """Backend for a set of problems that share one.

    The GPU is used if CuPy, driver, device and compiler are available, if its kernels support all the problems, and if
    one of them has M D >= :data:`THRESHOLD`. N does not matter: only samples are processed in parallel.

    Parameters
    ----------
    problems : iterable of (Problem, str)
        Problems with their dtypes; not evaluated if CuPy is not installed.
    machine : Machine, optional
        The machine to examine.
    device : callable, optional
        Returns the device, or raises a BackendError.

    Returns
    -------
    Choice
        A GPU that does not work raises no error; the reason says what is wrong with it.
    """
    if not diagnose.installed(machine):
        return Choice("cpu", "CuPy is not installed")
    listed = list(problems)
    if not listed or not all(compilable(problem) for problem, _ in listed):
        return Choice("cpu", f"{NOT_COMPILED} computes in NumPy")
    most = max(samples * width for samples, width, _, _ in (problem.shape for problem, _ in listed))
    if most < THRESHOLD:
        return Choice("cpu", f"small problem (M × D = {most}; a GPU pays from about {THRESHOLD})")
    try:
        with diagnose.errors_as_faults(machine.driver()):
            there = device()
    except diagnose.Fault as error:
        return Choice("cpu", error.plain, broken=True)
    try:
        for problem, dtype in listed:
            Gpu(problem, dtype, there)
    except BackendError as error:  # a block whose units are not plain parameters, say
        return Choice("cpu", str(error))
    return Choice("gpu", f"{there.name}, M D = {most}")


def announce(choice: Choice) -> str:
    """Log a choice and return the backend."""
    level = logging.WARNING if choice.broken else logging.INFO
    logger.log(level, "backend auto: %s (%s)", choice.backend, choice.reason)
    return choice.backend
