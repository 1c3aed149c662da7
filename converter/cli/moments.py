"""Points in time as users write and read them. Pure: now is an argument.

Owns the three forms that docker takes for `logs --since` and `--until` (a time stamp, a Unix time,
and a time span before now), and the forms in which times are shown.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from converter.cli.durations import SECOND_NS, UNITS_NS
from converter.errors import UsageError

_UNIX = re.compile(r"\d{1,12}(\.\d{1,9})?")
_SPAN = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|\u00b5s|ms|s|m|h|d)")
# A span may be of days too, which Go does not know.
_UNITS_NS = {**UNITS_NS, "d": 24 * UNITS_NS["h"]}
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?)?"
    r"(Z|z|[+-]\d\d:?\d\d)?"
)
_EXPECTED = "10m, 1h30m, 2026-01-31, 2026-01-31T13:05:00Z or 1769864700"


def read_moment(text: str, now_ns: int) -> int:
    """Return nanoseconds since 1970 for "10m", "2026-01-31T13:05:00Z" or "1769864700.5".

    A span counts back from `now_ns`. A time stamp may end at any of its parts; without a zone it
    is in this host's. Raises UsageError.
    """
    if _UNIX.fullmatch(text):
        return int(Decimal(text) * SECOND_NS)
    pieces = _SPAN.findall(text)
    if pieces and "".join(pieces) == text:
        return max(0, now_ns - sum(_nanoseconds(piece) for piece in pieces))
    match = _STAMP.fullmatch(text)
    if match is not None:
        try:
            return _stamp(match)
        except (ValueError, OverflowError, OSError) as error:
            raise UsageError(f"{text!r} is no time: {error}.", expected=_EXPECTED) from error
    raise UsageError(f"{text!r} is no time.", expected=_EXPECTED)


def timestamp(time_ns: int) -> str:
    """Return a time as RFC 3339 has it, in UTC and with nine digits, so that columns line up."""
    seconds, nanoseconds = divmod(time_ns, SECOND_NS)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def utc_second(time_ns: int) -> str:
    """Return a time as RFC 3339 has it, in UTC, without the part of a second."""
    return f"{datetime.fromtimestamp(time_ns // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%SZ}"


def local_time(time_ns: int) -> str:
    """Return a time as docker's CreatedAt has it, in this host's zone."""
    moment = datetime.fromtimestamp(time_ns // SECOND_NS, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S %z %Z}"


def _nanoseconds(piece: str) -> int:
    digits = piece.rstrip("nsmhdu\u00b5")
    return int(Decimal(digits) * _UNITS_NS[piece.removeprefix(digits)])


def _stamp(match: re.Match[str]) -> int:
    date, hour, minute, second, fraction, zone = match.groups()
    text = f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}"
    if zone:
        text += "+00:00" if zone in "Zz" else zone
    moment = datetime.fromisoformat(text)
    # Without a zone timestamp() takes the host's, and knows its summer time.
    return int(moment.timestamp()) * SECOND_NS + int((fraction or "").ljust(9, "0"))
