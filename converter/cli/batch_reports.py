"""What `batch` leaves beside its result: a report for people, metrics for a monitor.

Owns the options and the files; what stands in them is `converter.batch.report`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from converter.atomic import sync_directory, write_atomic
from converter.batch.report.history import BatchRecord
from converter.batch.report.page import encode_html, encode_svg
from converter.batch.report.prometheus import MOST_BYTES, encode_prometheus, read_last_success
from converter.errors import UsageError
from converter.store.room import room_for

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(dir_okay=False, path_type=Path)
_REPORTS = (".html", ".svg")
_METRICS = ".prom"


@dataclass(frozen=True, slots=True)
class Reports:
    """The files that are to be written when a batch has ended; `batch` is its name in them."""

    batch: str
    report: Path | None
    prometheus: Path | None

    def check(self) -> None:
        """Find out before any work what could not be written after it. Raises UsageError."""
        for path in filter(None, (self.report, self.prometheus)):
            if not path.absolute().parent.is_dir():
                raise UsageError(
                    f"{path} cannot be written: its folder is not there.",
                    hint=f"Make it with: mkdir -p {path.parent}",
                )
        if self.report is not None and self.report.suffix not in _REPORTS:
            raise UsageError(
                f"--report {self.report} is no kind of report.",
                expected="a file that ends in " + " or ".join(_REPORTS),
            )
        if self.prometheus is not None and self.prometheus.suffix != _METRICS:
            raise UsageError(
                f"--prometheus {self.prometheus} would be read by no collector.",
                expected=f"a file that ends in {_METRICS}",
            )

    def write(self, record: BatchRecord | None, *, ended: float) -> None:
        """Write them of a batch that ended at `ended`, in seconds since the epoch.

        Each is whole or as it was, and readable for everybody: a node exporter is another user. Of
        a batch that was not planned yet there is no `record`, and nothing is written. Raises
        OSError, and SaltflatError for want of room, after both were tried.
        """
        if record is None:
            return
        try:
            self._write_report(record, ended=ended)
        finally:  # who watches the metrics is not to take a full disk for a batch that never ran
            self._write_metrics(record, ended=ended)

    def _write_report(self, record: BatchRecord, *, ended: float) -> None:
        if self.report is not None:
            begun = datetime.fromtimestamp(ended - record.total.at_seconds, UTC)
            when = f"{begun:%Y-%m-%d %H:%M:%S} UTC"
            if self.report.suffix == ".svg":
                page = encode_svg(record)
            else:
                page = encode_html(record, title=self.batch, when=when)
            with room_for(str(self.report)):
                write_atomic(self.report, page)

    def _write_metrics(self, record: BatchRecord, *, ended: float) -> None:
        if self.prometheus is not None:
            before = b""
            with suppress(FileNotFoundError), self.prometheus.open("rb") as file:
                before = file.read(MOST_BYTES)
            last = read_last_success(before, batch=self.batch)
            text = encode_prometheus(record, batch=self.batch, ended=ended, last_success=last)
            with room_for(str(self.prometheus)):
                _write_metrics(self.prometheus, text)


ReportsOf = Callable[[str], Reports]
"""From the batch file's name, "-" for standard input, to what is to be written of it."""


def report_options(command: _Command) -> _Command:
    """Add what tells of a batch; the command gets it as `reports`, see `ReportsOf`."""

    @functools.wraps(command)
    def with_reports(
        *args: object,
        report: Path | None,
        prometheus: Path | None,
        name: str | None,
        **others: object,
    ) -> object:
        def reports_of(batch_file: str) -> Reports:
            own = "batch" if batch_file == "-" else Path(batch_file).stem
            return Reports(name or own, report, prometheus)

        return command(*args, reports_of=reports_of, **others)

    options = [
        click.option(
            "--report",
            type=_FILE,
            metavar="FILE.html|FILE.svg",
            envvar="SALTFLAT_BATCH_REPORT",
            show_envvar=True,
            help="Also write a page about the batch: images, failures, who did what when, and what "
            "is shared.",
        ),
        click.option(
            "--prometheus",
            type=_FILE,
            metavar="FILE.prom",
            envvar="SALTFLAT_BATCH_PROMETHEUS",
            show_envvar=True,
            help="Also write metrics for the textfile collector of Prometheus' node exporter.",
        ),
        click.option(
            "--name",
            envvar="SALTFLAT_BATCH_NAME",
            show_envvar=True,
            help="What the batch is called in these; by default as FILE without its ending.",
        ),
    ]
    wrapped = cast("_Command", with_reports)
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def _write_metrics(path: Path, text: bytes) -> None:
    """Write a file that a collector may read at any time.

    It takes whatever ends in ".prom", so what is not whole has another ending.
    """
    unnamed = path.with_name(f"{path.name}.new")
    write_atomic(unnamed, text)
    unnamed.rename(path)
    sync_directory(path.parent)
