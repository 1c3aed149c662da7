"""The way to a Dask scheduler, or to a cluster on this host that lasts as long as the batch.

Importing this loads Dask, an extra of the distribution. TLS, time-outs and whatever else Dask lets
people configure is theirs: nothing here overrides it.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker

from converter.errors import NotFoundError, UnavailableError, UsageError

try:
    from distributed import Client, LocalCluster
    from distributed.comm.addressing import get_address_host_port
except ImportError as error:
    raise NotFoundError(
        "Dask, by which other hosts take part in a batch, is not installed.",
        hint=f"{sys.executable} -m pip install 'saltflat[cluster]'",
        cause="no-dask",
    ) from error

LOCAL = "local"
_CONNECT_SECONDS = 20
_WORKER_SECONDS = 30  # until the first one is there; a pod's image may have to be pulled before


@contextmanager
def connected(scheduler: str, *, workers: int) -> Iterator[Client]:
    """Yield a client of the scheduler at an address ("tcp://host:8786"), which has a worker.

    LOCAL stands for a scheduler and as many `workers` on this host, which end with the block.
    Raises UsageError for an address that is none, UnavailableError if nobody answers there. For the
    main thread, as its signals are ignored while all is closed.
    """
    if scheduler != LOCAL:
        _check_address(scheduler)
    with ExitStack() as opened:
        opened.enter_context(_without_words())
        at_last = opened.enter_context(ExitStack())
        where: str | LocalCluster = scheduler
        if scheduler == LOCAL:
            with _without_interrupts():
                where = opened.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,  # a conversion has threads of its own
                        dashboard_address=None,
                        silence_logs=logging.CRITICAL,  # a dead worker is an event of ours
                    )
                )
        try:
            client = opened.enter_context(
                Client(where, timeout=_CONNECT_SECONDS, set_as_default=False)
            )
        except (OSError, TimeoutError) as error:
            raise UnavailableError(
                f"The scheduler {scheduler} does not answer: {error}",
                hint="Start one: dask scheduler",
            ) from error
        # Closing takes a second. Who cannot wait and interrupts it has Dask do it anew at the
        # interpreter's end, which takes ten, and a traceback.
        opened.callback(at_last.enter_context, _deaf())
        try:
            client.wait_for_workers(1, timeout=_WORKER_SECONDS)
        except TimeoutError as error:
            raise UnavailableError(
                f"The scheduler {scheduler} has no worker after {_WORKER_SECONDS} seconds.",
                hint=f"Start some: dask worker {scheduler} --nthreads 1",
            ) from error
        yield client


def _check_address(scheduler: str) -> None:
    """Raise UsageError for what is no address.

    A client that finds out by itself is one that waits for most of a minute before it goes.
    """
    try:
        get_address_host_port(scheduler)
    except ValueError as error:
        raise UsageError(
            f"{scheduler!r} is not a scheduler's address: {error}.",
            expected="tcp://HOST:PORT, tls://HOST:PORT or local",
        ) from error


@contextmanager
def _without_words() -> Iterator[None]:
    """Keep Dask's client from writing to standard error what we raise as an error of ours."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore the signals that end a batch."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block SIGINT for threads and processes that are begun in the block, and all that they begin.

    A terminal sends Ctrl-C to the workers too, but it is for the batch to say what they do.
    """
    resource_tracker.ensure_running()  # starting it unblocks the signal in whichever thread does
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
