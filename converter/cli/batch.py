"""The verb `batch`: many images, what they share done once."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from converter.batch.batch import Batch, run_batch
from converter.batch.batch_file import MOST_BYTES, parse_batch
from converter.batch.events import BatchEvent
from converter.batch.executor import Executor
from converter.batch.failure import worst_exit_code
from converter.batch.lookup import LookedUp, look_up
from converter.batch.orders import CacheOrder
from converter.batch.report.documents import result_document
from converter.batch.report.history import History
from converter.batch.wishes import BatchFile, Treatment
from converter.batch.work import Workplace, cache_repository
from converter.cli.batch_plan import plan_document, plan_lines
from converter.cli.batch_progress import BatchRenderer, result_lines, show_batch
from converter.cli.batch_reports import ReportsOf, report_options
from converter.cli.batch_scheduler import open_executor, scheduler_option
from converter.cli.caching import Caching, cache_options
from converter.cli.interruption import interrupted_by_signals
from converter.cli.options import (
    conversion_options,
    format_option,
    open_store,
    source_options,
    store_option,
)
from converter.cli.output import Output
from converter.cli.registries import access_for
from converter.cli.stdin import claim_stdin
from converter.convert_options import ConvertOptions
from converter.errors import NotFoundError, SaltflatError, UsageError
from converter.image.reference import RegistryReference, parse_source
from converter.image.source import Origin
from converter.store.layout import Store
from converter.store.locks import using

_STANDARD_INPUT = Path("-")


@click.command("batch")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--dry-run",
    is_flag=True,
    help="Look the images up, show what would be done and what it takes, and do nothing.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    envvar="SALTFLAT_BATCH_JOBS",
    show_envvar=True,
    help="How many tasks are computed side by side, each in a process of its own; else as many as "
    "there are processors and memory for.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    envvar="SALTFLAT_BATCH_KEEP_GOING",
    show_envvar=True,
    help="Do all that can be done when an image fails; else nothing more is begun.",
)
@scheduler_option
@report_options
@conversion_options
@cache_options
@source_options
@store_option
@format_option
@click.pass_obj
def command(
    output: Output,
    *,
    file: Path,
    dry_run: bool,
    jobs: int | None,
    keep_going: bool,
    scheduler: str | None,
    reports_of: ReportsOf,
    conversion: ConvertOptions,
    caching: Caching,
    origin: Origin,
    store_root: Path,
) -> int:
    """Convert the images that FILE names, and make of each what FILE says.

    FILE is YAML with a list of images, or has one JSON value on each line; - is standard input.
    docs/batch.md says what may stand in it. Each layer is fetched once and each link made once,
    however many images have it. A batch that was stopped goes on where it was: what is there is
    recognised. Options hold for all images of which FILE says nothing else.

    \b
    Examples:
      saltflat batch images.yaml --dry-run
      saltflat batch images.yaml --jobs 4 --keep-going
      saltflat batch nightly.jsonl --format json > result.json
      saltflat batch images.yaml --scheduler tcp://HOST:8786 --cache-repo HOST/REPO
      crane ls app | sed 's/.*/"registry.example\\/app:&"/' | saltflat batch -
    """
    reports = reports_of(str(file))
    reports.check()
    base = Treatment(conversion, origin, (origin.platform,))
    wanted = _read(file, base)
    named = _named_host(wanted, origin)
    cache = _cache(caching, origin, named)
    store = open_store(store_root)
    history = History()
    with (
        interrupted_by_signals(),
        using(store, monitor=output.monitor),
        Workplace() as workplace,
        open_executor(
            None if dry_run else scheduler,  # a plan needs nobody to carry it out
            jobs=jobs,
            fetches=conversion.parallel_fetches,
            workplace=workplace,
            store=store,
            cache=cache,
        ) as executor,
        show_batch(output) as renderer,
    ):
        batch = _plan(wanted, store, workplace, cache, executor, renderer=renderer)
        if dry_run:
            return _show_plan(output, renderer, batch)

        def watch(event: BatchEvent) -> None:
            history.take(event)
            renderer.show(event)

        try:
            finished = run_batch(batch, executor, watch, keep_going=keep_going)
        except BaseException:
            with suppress(OSError, SaltflatError):  # what stopped the batch is what is told
                reports.write(history.record(), ended=time.time())
            raise
    ended, record = time.time(), history.record()
    assert record is not None, "the last event was there"
    output.result("\n".join(result_lines(record)), result_document(record))
    reports.write(record, ended=ended)  # at last: where it fails, the result is there all the same
    return finished.exit_code


def _read(file: Path, base: Treatment) -> BatchFile:
    if file == _STANDARD_INPUT:
        claim_stdin("batch -")
        raw = sys.stdin.buffer.read(MOST_BYTES + 1)
        return parse_batch(raw, name="standard input", base=base)
    try:
        with file.open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {file}.", expected="a list of images") from error
    except IsADirectoryError as error:
        raise UsageError(f"{file} is a folder.", expected="a list of images") from error
    return parse_batch(raw, name=str(file), base=base)


def _named_host(wanted: BatchFile, origin: Origin) -> str:
    """Return the registry that a password is for: it must be the only one. Raises UsageError."""
    hosts = {
        reference.host
        for entry in wanted.entries
        if isinstance(reference := parse_source(entry.source), RegistryReference)
    }
    if origin.access.credential is not None and len(hosts) > 1:
        raise UsageError(
            f"{wanted.name} has images from {len(hosts)} registries: which of them is the password "
            "of --username for?",
            expected="images from one registry, or passwords in a file (--authfile)",
        )
    return hosts.pop() if len(hosts) == 1 else ""


def _cache(caching: Caching, origin: Origin, named: str) -> CacheOrder | None:
    place = caching.repository
    if place is None:
        return None
    access = access_for(place.host, origin.access, named=named or place.host)
    return CacheOrder(
        f"{place.host}/{place.repository}",
        caching.mode,
        caching.verify,
        replace(origin, access=access),
    )


def _plan(
    wanted: BatchFile,
    store: Store,
    workplace: Workplace,
    cache: CacheOrder | None,
    executor: Executor,
    *,
    renderer: BatchRenderer,
) -> Batch:
    """Look the images up and plan; what cannot be looked up is a failure within the plan."""
    looked: list[LookedUp] = []

    def told(one: LookedUp) -> None:
        looked.append(one)
        renderer.looked_up(len(looked))

    images = look_up(wanted.entries, workplace.sources(store), told)
    is_cached = None
    if cache is not None:
        # Half of what this loads is for pushing; who has no cache need not wait for it.
        from converter.batch.cached import cached_links, reads  # noqa: PLC0415 - see above

        if reads(cache):
            is_cached = partial(cached_links, cache_repository(cache, store, workplace))
    return Batch(
        images,
        store,
        cache=cache,
        is_cached=is_cached,
        shares_store=executor.shares_store,
    )


def _show_plan(output: Output, renderer: BatchRenderer, batch: Batch) -> int:
    renderer.close()
    failures = [image.failure for image in batch.plan.images if image.failure is not None]
    output.result("\n".join(plan_lines(batch.plan)), plan_document(batch.plan))
    return worst_exit_code(failures)
