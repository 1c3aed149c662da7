"""Who carries a batch out: processes of this host, or a cluster that --scheduler names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from converter.batch.executor import Executor
from converter.batch.jobs import default_jobs
from converter.batch.local import LocalExecutor
from converter.batch.orders import CacheOrder
from converter.batch.work import Workplace
from converter.store.layout import Store

_Command = TypeVar("_Command", bound=Callable[..., Any])


def scheduler_option(command: _Command) -> _Command:
    """Add --scheduler; the command gets it as `scheduler`, None for this host's processes."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        envvar="SALTFLAT_SCHEDULER",
        show_envvar=True,
        help="Have a Dask cluster do it: the scheduler's address, tcp://HOST:PORT, or local for "
        "--jobs workers of Dask's on this host. Workers share the store, or meet at --cache-repo "
        "(docs/cluster.md).",
    )(command)


@contextmanager
def open_executor(
    scheduler: str | None,
    *,
    jobs: int | None,
    fetches: int,
    workplace: Workplace,
    store: Store,
    cache: CacheOrder | None,
) -> Iterator[Executor]:
    """Yield who carries plans out; to be called while the store is in use.

    Raises NotFoundError without Dask, UsageError and UnavailableError as
    `converter.batch.cluster.connect` does, and as `converter.batch.cluster.executor`.
    """
    jobs = jobs or default_jobs()
    if scheduler is None:
        yield LocalExecutor(jobs, fetches=fetches, workplace=workplace, store=store)
        return
    # Dask is an extra, and takes as long to load as everything else.
    from converter.batch.cluster.connect import connected  # noqa: PLC0415 - see above
    from converter.batch.cluster.executor import dask_executor  # noqa: PLC0415 - see above

    with (
        connected(scheduler, workers=jobs) as client,
        dask_executor(client, store, cache) as executor,
    ):
        yield executor
