"""Preparation of a run: the study with its members, its kernels, and the cores they share, all checked."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

from wgflow.base.errors import InputError
from wgflow.base.registry import check_name
from wgflow.base.terminal import console
from wgflow.base.types import Spec
from wgflow.kernels.auto import Choice
from wgflow.kernels.cpu.threads import available_threads
from wgflow.kernels.ranks import Ranks
from wgflow.kernels.select import CHOICES
from wgflow.report.figure import Figure
from wgflow.sims import forecast, pool, trial
from wgflow.sims.bundled import study_path
from wgflow.sims.cluster import address
from wgflow.sims.cluster.connection import Cluster
from wgflow.sims.command_line import duration, key_value, positive
from wgflow.sims.forecast import Size
from wgflow.studies import registry
from wgflow.study import grid
from wgflow.study.grid import RunPlan
from wgflow.study.schema import Study, documents, load, override_value
from wgflow.study.workspace import Workspace
from wgflow.systems.members import system_of, systems_of
from wgflow.systems.protocol import Setup


class StudyRun(NamedTuple):
    """A study to be run, and how.

    Attributes
    ----------
    options : Namespace
        The command line.
    study, work : Study, Workspace
        The study, checked, and its folder.
    planned : list of RunPlan
        Its members.
    documents : list of dict
        What each member's file is to hold.
    draw : dict of str to Figure
        Its figures.
    chosen : Choice
        The backend, and why.
    kernels : dict
        What the kernels compute with, for the record.
    sizes : list of Size
        Cost of each member.
    jobs, threads : int
        Members side by side, and threads of each.
    deadline : float or None
        Monotonic time at which to stop.
    cluster : Cluster or None
        Whose workers run the members.
    """

    options: argparse.Namespace
    study: Study
    work: Workspace
    planned: list[RunPlan]
    documents: list[Spec]
    draw: dict[str, Figure]
    chosen: Choice
    kernels: Spec
    sizes: list[Size]
    jobs: int
    threads: int
    deadline: float | None
    cluster: Cluster | None = None


def cluster(options: argparse.Namespace) -> contextlib.AbstractContextManager[Cluster | None]:
    """Cluster that a command asks for; None without.

    Raises
    ------
    InputError
        If ``--cluster`` is not valid; on entry, if the cluster cannot be used.
    """
    if options.cluster is None or options.mpi:  # with both, prepare refuses
        return contextlib.nullcontext()
    if options.jobs is not None:
        raise InputError(
            "--jobs: expected it without --cluster, whose workers take one member each; use --cluster local:N for N"
        )
    return Cluster(address.parse(options.cluster), wait=not options.dry_run)


def prepare(options: argparse.Namespace, cluster: Cluster | None = None) -> StudyRun:
    """Check all that a command asks for, and build each member once.

    Raises
    ------
    InputError, BackendError
        If an option, the study or a member is wrong, or a backend is not available.
    """
    check_name("backend", options.backend, CHOICES)
    threads = None if options.threads is None else positive("--threads", options.threads)
    jobs = None if options.jobs is None else positive("--jobs", options.jobs)
    ranks: Ranks | None = options.ranks
    if options.mpi:
        ask_for_ranks_alone(options)
    deadline = None if options.walltime is None else time.monotonic() + duration(options.walltime)
    overrides = dict(key_value(text, override_value) for text in options.overrides)
    study, content = load(study_path(options.study), overrides)
    planned = grid.expand(study)
    draw = registry.required(study.figure, planned, study.target)
    chosen = choose_backend(planned, "cpu" if options.backend == "auto" and ranks else options.backend)
    if chosen.backend == "gpu" and jobs is None:
        jobs = 1  # there is one device; processes that share it wait for one another
    fixed = max(filter(None, (system_of(plan.member).threads(plan.member) for plan in planned)), default=None)
    if fixed and threads not in (None, fixed):
        note(
            f"--threads {threads} has no effect on training runs: training.threads = {fixed} is part of the study",
            options.quiet,
        )
    enough = {"enough": 2} if fixed else {}  # a training has no use for further cores
    cores = available_threads() if ranks is None else ranks.threads
    if ranks and threads and threads > available_threads():
        note(
            f"--threads {threads}: mpirun has bound rank 0 to {available_threads()} of the cores, which its threads "
            "share; mpirun --bind-to none leaves it all",
            options.quiet,
        )
    jobs = 1 if options.mpi else jobs
    if cluster is not None and cluster.address.scheduler:
        jobs, threads = min(cluster.workers, len(planned)), fixed or threads or cluster.threads
    else:
        jobs = cluster.workers if cluster else jobs
        jobs, threads = pool.split_cores(len(planned), cores, jobs, fixed or threads, **enough)

    def cost(plan: RunPlan, setup: Setup) -> tuple[Size, Spec, int]:
        device = setup.system.device(setup)
        kernels = {"backend": setup.energy.backend} | ({"device": device} if device else {})
        chunks = setup.system.chunks(setup, plan.member) if ranks else 0
        if ranks and not chunks:
            raise InputError(
                f"--mpi: expected measures of built-in blocks, losses and activations on backend cpu, whose samples "
                f"processes can share, got others in study {study.name!r}; use --jobs, or one process, instead"
            )
        return forecast.size(plan, setup, threads), kernels, chunks

    costs = trial.each(planned, chosen.backend, threads, cost)
    sizes, kernels, most = [size for size, *_ in costs], costs[0][1], max(chunks for *_, chunks in costs)
    if ranks and most < ranks.size:
        note(
            f"--mpi: the samples make at most {most} {'chunks' if most > 1 else 'chunk'}; {ranks.size - most} of the "
            f"{ranks.size} ranks have nothing to do",
            options.quiet,
        )
    written = documents([plan.member for plan in planned])
    work = Workspace.of(options.out, study.name, content)
    share = (jobs, threads)
    return StudyRun(options, study, work, planned, written, draw, chosen, kernels, sizes, *share, deadline, cluster)


def ask_for_ranks_alone(options: argparse.Namespace) -> None:
    """Refuse options that share out work in another way beside --mpi."""
    for name in ("jobs", "cluster"):
        if getattr(options, name, None) is not None:
            raise InputError(
                f"--{name}: expected no such option with --mpi, whose ranks all work at one member at a time; drop one "
                "of the two"
            )


def choose_backend(plans: Sequence[RunPlan], backend: str) -> Choice:
    """Backend of all members of a study, so that they can be compared: ``auto`` is decided once."""
    if backend != "auto":
        return Choice(backend, "")  # asked for by name, which needs no reason
    return systems_of(plan.member for plan in plans)[0].auto(plans)


def print_backend(chosen: Choice, quiet: bool) -> None:
    """Head a run with the backend that ``auto`` took and why; one asked for by name needs no reason."""
    if chosen.reason:
        note(f"backend {chosen.backend}: {chosen.reason}", quiet)


def note(line: str, quiet: bool) -> None:
    """Print a line about the command, as it is."""
    if not quiet:
        console().print(line, soft_wrap=True)
