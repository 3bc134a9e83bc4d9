"""The cluster of ``--cluster``: connected to, or started here, its workers checked, and closed without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from wgflow.base.environment import environment
from wgflow.base.errors import InputError
from wgflow.base.extras import install
from wgflow.base.terminal import say
from wgflow.sims import pool, workers
from wgflow.sims.cluster.address import Address
from wgflow.sims.cluster.versions import lacking, processor, skew, versions
from wgflow.sims.run_member import Outcome

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

_CONNECT = 5.0  # seconds within which a scheduler has to answer
_LOOK = 120.0  # seconds within which its workers, which are there, have to import this package and answer
_CLOSE = 5.0  # seconds for them to end by themselves
_LOGGERS = ("distributed", "tornado", "asyncio")  # a cluster that ends, or loses a worker, has much to say
_NEVER = logging.CRITICAL + 1


class Cluster:
    """A Dask cluster for the length of a ``with``; local workers are there while members run.

    Parameters
    ----------
    address : Address
        Where it is.
    wait : bool, optional
        Whether to wait for its first worker.
    """

    def __init__(self, address: Address, wait: bool = True) -> None:
        self.address, self._wait = address, wait
        self._client: Client | None = None
        self._open = contextlib.ExitStack()
        self.workers, self.threads = address.workers, 0

    def __enter__(self) -> Cluster:
        _require()
        self._open.enter_context(_silent())
        if self.address.scheduler:
            self._connect()
        return self

    def _connect(self) -> None:
        with self._open.pop_all() as opened:  # closed if it fails
            self._client = opened.enter_context(_connected(self.address))
            found = _first_workers(self._client, self.address, self._wait)
            self.workers, self.threads = max(1, len(found)), min(found.values(), default=1)
            self._open = opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run_all(
        self,
        tasks: Sequence[pool.Task],
        advance: Callable[[int, float], None],
        caught: list[int],
        deadline: float | None,
        *,
        threads: int,
        whatever: bool,
        packages: tuple[str, ...],
        fresh: bool,
    ) -> Generator[tuple[pool.Task, Outcome | None], None, None]:
        """Run members on the cluster.

        Parameters
        ----------
        tasks, advance, caught, deadline
            As for :func:`wgflow.sims.pool.run_all`.
        threads : int
            Kernel threads of each local worker.
        whatever : bool
            Whether workers that are there take as many threads as Dask has given them.
        packages, fresh
            As for :class:`wgflow.sims.cluster.sweep.Sweep`.
        """
        from wgflow.sims.cluster.sweep import Sweep

        with contextlib.ExitStack() as stack:
            client = self._client
            if client is None:
                client = stack.enter_context(_local(min(self.address.workers, len(tasks)), threads))
            elif whatever:
                tasks = [task._replace(threads=0) for task in tasks]
            sweep = Sweep(client, self.address.text, packages, fresh)
            yield from stack.enter_context(contextlib.closing(sweep.answers(tasks, advance, caught, deadline)))


def _require() -> None:
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("distributed", "dask"):
            raise
        raise InputError(f"--cluster: expected Dask, got no such package; {install('cluster')}") from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Say in one line what went wrong, in place of what Dask logs of it."""
    import distributed  # noqa: F401 - which sets levels of its own

    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in _LOGGERS]
    loggers = [logging.getLogger(name) for name in {*known, *_LOGGERS}]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(_NEVER)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[Client]:
    """Client of a scheduler, with the TLS options of Dask's own configuration.

    Raises
    ------
    InputError
        If nobody answers, or not as a scheduler does.
    """
    from distributed import Client

    _check_scheduler(address)  # first, since a client that has found none leaves threads behind
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about versions, which are compared below
        client = Client(address.scheduler, timeout=_CONNECT, set_as_default=False, name="wgflow")
    try:
        yield client
    finally:
        _close(client)


def _check_scheduler(address: Address) -> None:
    from distributed.core import rpc
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    if address.scheduler.startswith("tls:") and arguments["ssl_context"] is None:
        raise InputError(
            f"--cluster {address.text}: expected certificates for TLS in Dask's configuration, got none; set "
            "distributed.comm.tls.ca-file and distributed.comm.tls.client.cert and .key there"
        )

    async def ask() -> Any:
        async with rpc(address.scheduler, connection_args=arguments) as server:
            return await server.identity(n_workers=0)

    what = f"--cluster {address.text}: expected a Dask scheduler at {address.scheduler}"
    try:
        found = asyncio.run(asyncio.wait_for(ask(), _CONNECT))
    except TimeoutError as error:
        raise InputError(f"{what}, got no answer in {_CONNECT:g} seconds; start one, or look at the address") from error
    except Exception as error:  # of the network, of TLS, of a server that is something else
        raise InputError(f"{what}, got an error ({str(error) or type(error).__name__}); look at the address") from error
    if found.get("type") != "Scheduler":
        raise InputError(f"{what}, got a Dask {found.get('type')}; give the address of the scheduler")


def _first_workers(client: Client, address: Address, wait: bool) -> dict[str, int]:
    """Workers and their threads, once there is one, after a look at what they have.

    Raises
    ------
    InputError
        If one has other versions than this machine, or does not have this package.
    """
    from distributed.comm import CommClosedError

    from wgflow.sims.cluster.on_worker import look

    here, there = versions(), dict[str, Any]()
    found: dict[str, int] = client.nthreads()
    if not found and wait:
        say(f"{address.text} has no worker now; waiting for one")
    while found or wait:
        if found:
            try:
                there = client.sync(client._run, look, (), on_error="return", callback_timeout=_LOOK)
            except TimeoutError as error:
                raise InputError(
                    f"--cluster {address.text}: its workers do not answer within {_LOOK:g} seconds"
                ) from error
            found = client.nthreads()
            # One that was killed meanwhile has a lost connection for an answer.
            there = {
                worker: got for worker, got in there.items() if worker in found and not isinstance(got, CommClosedError)
            }
            if there:
                break
        time.sleep(0.2)
        found = client.nthreads()
    wrong = {worker: differs for worker, got in there.items() if (differs := _differs(here, got))}
    if wrong:
        worker, what = min(wrong.items())
        others = f", and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
        raise InputError(
            f"--cluster {address.text}: expected workers with what is installed here, got {what} in worker "
            f"{worker}{others}; install the same there, and start them again"
        )
    strange = sorted({got["processor"] for got in there.values()} - {processor()})
    if strange:
        say(
            f"--cluster {address.text}: has processors {', '.join(strange)}, and this machine {processor()}: the last "
            "bits of results may differ between members"
        )
    return {worker: found[worker] for worker in there}


def _differs(here: dict[str, str], there: Any) -> str:
    if isinstance(there, dict):
        return skew(here, there)
    return lacking(there) or f"an error ({type(there).__name__}: {there})"


@contextlib.contextmanager
def _local(count: int, threads: int) -> Iterator[Client]:
    """Client of workers on this machine, reached through its loopback; without the dashboard."""
    import dask
    from distributed import Client, LocalCluster

    own = dict.fromkeys((*workers.LIBRARY_THREADS, "NUMBA_NUM_THREADS"), str(threads))
    before_start = own | {"DASK_LOGGING__DISTRIBUTED": "critical"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(workers.callers_main_hidden())
        stack.enter_context(environment(before_start))  # where nannies put it, for a worker that is started again too
        own_settings = {
            "distributed.nanny.pre-spawn-environ": before_start,
            "distributed.worker.profile.enabled": False,  # it looks at the threads a hundred times a second
        }
        stack.enter_context(dask.config.set(own_settings))
        try:
            with workers.signals_blocked():  # Ctrl-C goes to all processes; the client tells the workers
                cluster = LocalCluster(
                    n_workers=count,
                    threads_per_worker=threads,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its port would be 8787 without one, too
                    memory_limit=0,
                    silence_logs=_NEVER,
                )
        except Exception as error:
            raise OSError(f"--cluster local:{count}: its processes do not start ({error}); try fewer") from error
        stack.callback(_close, cluster)
        client = Client(cluster, set_as_default=False, name="wgflow")
        stack.callback(_close, client)
        yield client


def _close(opened: Client | LocalCluster) -> None:
    with contextlib.suppress(Exception):
        opened.close(timeout=_CLOSE)
