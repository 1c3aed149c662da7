"""Points in time as --since and --until take them, and as --timestamps writes them."""

from __future__ import annotations

import time

import pytest

from converter.cli.moments import local_time, read_moment, timestamp, utc_second
from converter.errors import UsageError

SECOND = 10**9
NOW = 1_800_000_000 * SECOND
NEW_YEAR = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z, by date(1)


@pytest.fixture
def in_new_york(monkeypatch):
    monkeypatch.setenv("TZ", "EST5EDT,M3.2.0,M11.1.0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("1767225600", NEW_YEAR),
        ("1767225600.5", NEW_YEAR + SECOND // 2),
        ("1767225600.000000001", NEW_YEAR + 1),
        ("10m", NOW - 600 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        (".5s", NOW - SECOND // 2),
        ("42ms", NOW - 42_000_000),
        ("3us2ns", NOW - 3002),
        ("2d", NOW - 172_800 * SECOND),
        ("999999h", 0),
        ("2026-01-01Z", NEW_YEAR),
        ("2026-01-01T00Z", NEW_YEAR),
        ("2026-01-01T00:00Z", NEW_YEAR),
        ("2026-01-01T00:00:00Z", NEW_YEAR),
        ("2026-01-01T00:00:00.25Z", NEW_YEAR + SECOND // 4),
        ("2026-01-01T00:00:00.123456789Z", NEW_YEAR + 123_456_789),
        ("2026-01-01T01:00:00+01:00", NEW_YEAR),
        ("2025-12-31T19:00:00-0500", NEW_YEAR),
        ("2026-01-01 00:00:00Z", NEW_YEAR),
    ],
)
def test_what_is_a_moment(text, moment):
    assert read_moment(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "10 m", "1h 30m", "-5m", "5x", "0x10", "1e9"),
        *("2026-13-01", "2026-02-30T00:00:00Z", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.Z"),
    ],
)
def test_what_is_none(text):
    with pytest.raises(UsageError, match="is no time") as caught:
        read_moment(text, NOW)
    assert caught.value.expected


@pytest.mark.usefixtures("in_new_york")
def test_without_a_zone_it_is_the_hosts():
    assert read_moment("2025-12-31T19:00:00", NOW) == NEW_YEAR
    summer = read_moment("2026-07-01", NOW) - read_moment("2026-07-01Z", NOW)
    assert summer == 4 * 3600 * SECOND
    assert local_time(NEW_YEAR) == "2025-12-31 19:00:00 -0500 EST"


def test_time_stamps_line_up_and_read_back():
    for moment in (0, NEW_YEAR, NEW_YEAR + 5, NOW + 123_456_789):
        text = timestamp(moment)
        assert len(text) == len("2026-01-01T00:00:00.000000000Z")
        assert read_moment(text, NOW) == moment
        assert read_moment(utc_second(moment), NOW) == moment // SECOND * SECOND
