"""The files that a batch leaves: checked before any work, whole, and there for a collector."""

from __future__ import annotations

import re
import resource
import stat
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from converter.batch.report.prometheus import read_last_success
from converter.cli.batch_reports import Reports
from converter.errors import SaltflatError, UsageError
from tests.unit.batch.report.samples import many, record_of, small_events


def test_both_are_written_for_everybody_and_nothing_else_is(tmp_path: Path) -> None:
    reports = Reports("nightly", tmp_path / "out.html", tmp_path / "nightly.prom")
    reports.check()
    reports.write(many(3, 1, 1), ended=1_800_000_000)
    reports.write(record_of(small_events()), ended=1_800_086_400)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nightly.prom", "out.html"]
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    # What the first run left is in what the second, which failed, wrote.
    metrics = (tmp_path / "nightly.prom").read_bytes()
    assert read_last_success(metrics, batch="nightly") == 1_800_000_000
    page = "".join(ET.parse(tmp_path / "out.html").getroot().itertext())
    assert re.search(r"nightly\s+2027-01-16 07:59:\d\d UTC", page)


def test_a_page_that_finds_no_room_does_not_keep_the_metrics_from_theirs(tmp_path: Path) -> None:
    page, metrics = tmp_path / "out.html", tmp_path / "nightly.prom"
    reports = Reports("nightly", page, metrics)
    reports.write(many(3, 1, 1), ended=1_800_000_000)
    before, room_bytes = page.read_bytes(), metrics.stat().st_size + 100
    assert len(before) > room_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, hard))
    try:
        with pytest.raises(SaltflatError, match=r"no room for .*out\.html"):
            reports.write(many(3, 1, 1), ended=1_800_086_400)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert page.read_bytes() == before
    assert b" 1800086400" in metrics.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_picture_is_the_pages_pictures(tmp_path: Path) -> None:
    Reports("nightly", tmp_path / "out.svg", None).write(many(3, 1, 1), ended=0.0)
    root = ET.parse(tmp_path / "out.svg").getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 2


@pytest.mark.parametrize(
    ("report", "prometheus", "what"),
    [
        ("missing/out.html", None, "folder"),
        ("out.pdf", None, "no kind of report"),
        (None, "missing/out.prom", "folder"),
        (None, "out.txt", "no collector"),
    ],
)
def test_what_could_not_be_written_is_said_before_any_work(
    tmp_path: Path, report: str | None, prometheus: str | None, what: str
) -> None:
    reports = Reports(
        "nightly",
        tmp_path / report if report else None,
        tmp_path / prometheus if prometheus else None,
    )
    with pytest.raises(UsageError, match=what):
        reports.check()
