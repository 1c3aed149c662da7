"""What `batch` leaves beside its result: a report for people, metrics for a monitor.

Owns the options and the files; what stands in them is `converter.batch.report`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from converter.atomic import write_atomic
from converter.batch.report.history import BatchRecord
from converter.batch.report.page import encode_html, encode_svg
from converter.batch.report.prometheus import MOST_BYTES, encode_prometheus, read_last_success
from converter.errors import UsageError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_FILE = click.Path(dir_okay=False, path_type=Path)
_SUFFIXES = (".html", ".svg")


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
        if self.report is not None and self.report.suffix not in _SUFFIXES:
            raise UsageError(
                f"--report {self.report} is no kind of report.",
                expected="a file that ends in " + " or ".join(_SUFFIXES),
            )

    def write(self, record: BatchRecord, *, ended: float) -> None:
        """Write them of a batch that ended at `ended`, in seconds since the epoch. Raises OSError.

        Each is whole or as it was, and readable for everybody: a node exporter is another user.
        """
        if self.report is not None:
            begun = datetime.fromtimestamp(ended - record.total.at_seconds, UTC)
            page = partial(encode_html, title=self.batch, when=f"{begun:%Y-%m-%d %H:%M:%S} UTC")
            encode = encode_svg if self.report.suffix == ".svg" else page
            write_atomic(self.report, encode(record))
        if self.prometheus is not None:
            before = b""
            with suppress(FileNotFoundError), self.prometheus.open("rb") as file:
                before = file.read(MOST_BYTES)
            last = read_last_success(before, batch=self.batch)
            text = encode_prometheus(record, batch=self.batch, ended=ended, last_success=last)
            write_atomic(self.prometheus, text)


def report_options(command: Callable[_P, _R]) -> Callable[..., _R]:
    """Add --report, --prometheus and --name, which arrive as `reports`, a function of the file.

    It takes the batch file's name ("-" for standard input) and returns `Reports`.
    """

    def wrapped(
        *args: Any,  # noqa: ANN401 - whatever the command takes
        report: Path | None,
        prometheus: Path | None,
        name: str | None,
        **kwargs: Any,  # noqa: ANN401 - likewise
    ) -> _R:
        def reports(batch_file: str) -> Reports:
            own = "batch" if batch_file == "-" else Path(batch_file).stem
            return Reports(name or own, report, prometheus)

        return command(*args, reports=reports, **kwargs)

    return wrapped
