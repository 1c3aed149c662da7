"""How long ago, in the words that docker's users know. Pure: spans of time are arguments.

Owns the wording and the steps of its precision; what time it is belongs to the caller.
"""

from __future__ import annotations

from converter.cli.durations import SECOND_NS

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY_HOURS = 24
_WEEK_HOURS = 7 * _DAY_HOURS
_MONTH_HOURS = 30 * _DAY_HOURS
_YEAR_HOURS = 365 * _DAY_HOURS
# Up to twice the next unit: "20 months", not "1 year". (hours below which it counts, hours, word)
_LONG_STEPS = (
    (2 * _DAY_HOURS, 1, "hours"),
    (2 * _WEEK_HOURS, _DAY_HOURS, "days"),
    (2 * _MONTH_HOURS, _WEEK_HOURS, "weeks"),
    (2 * _YEAR_HOURS, _MONTH_HOURS, "months"),
)


def duration_words(seconds: float) -> str:
    """Return a span of time as docker words it: "3 minutes", "About an hour", "2 weeks"."""
    if seconds < 1:
        return "Less than a second"
    if seconds < _MINUTE:
        return "1 second" if seconds < 2 else f"{int(seconds)} seconds"
    if seconds < _HOUR:
        minutes = int(seconds // _MINUTE)
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours == 1:
        return "About an hour"
    for below, unit, word in _LONG_STEPS:
        if hours < below:
            return f"{hours // unit} {word}"
    return f"{hours // _YEAR_HOURS} years"


def ago(then_ns: int, now_ns: int) -> str:
    """Return how long ago `then_ns` was, both in nanoseconds since 1970; a future is just now."""
    return f"{duration_words(max(0, now_ns - then_ns) / SECOND_NS)} ago"
