"""Spans of time as docker's users write them, which is as Go reads them. Owns the units.

What stands for a point in time is `converter.cli.moments`'s.
"""

from __future__ import annotations

import re
from typing import Any

import click

from agent.tether.health import LEAST_NS, MOST_NS

SECOND_NS = 10**9
# Those of Go's time.ParseDuration; micro has two characters.
UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)", re.ASCII)


class Duration(click.ParamType[int]):
    """A time as Go writes it, such as 1m30s or 1.5s. The value is nanoseconds."""

    name = "duration"

    def convert(
        self,
        value: Any,  # noqa: ANN401  # a text, or what this has returned before
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Read it. Fails for what is none, negative, or less than a millisecond."""
        if isinstance(value, int):
            return value
        parts = _PART.findall(value)
        if value != "0" and (not parts or "".join(map("".join, parts)) != value):
            self.fail(f"{value!r} is no time such as 30s, 1m30s or 500ms", param, ctx)
        duration = sum(round(float(count) * UNITS_NS[unit]) for count, unit in parts)
        if duration and not LEAST_NS <= duration <= MOST_NS:
            self.fail(f"{value!r} is less than a millisecond or more than 292 years", param, ctx)
        return duration
