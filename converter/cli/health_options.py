"""What `run` takes of docker run's options about the process's life: restart policy, health check.

Owns docker's rules for their values (docker/cli, cli/command/container/opts.go). What they do is
decided in the guest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from agent.tether.health import LEAST_NS, MOST_NS, NONE, SHELL_COMMAND, HealthCheck
from agent.tether.restart import NO, ON_FAILURE, POLICIES, RestartPolicy
from converter.errors import UsageError

_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
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
        duration = sum(round(float(count) * _UNITS_NS[unit]) for count, unit in parts)
        if duration and not LEAST_NS <= duration <= MOST_NS:
            self.fail(f"{value!r} is less than a millisecond or more than 292 years", param, ctx)
        return duration


def _time(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(f"--health-{name}", type=Duration(), default=0, metavar="TIME", help=text)


HEALTH_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--health-cmd", metavar="COMMAND",
                 help="Check the process's health with this command of the shell."),
    _time("interval", "How long to wait before each check, 30s without."),
    _time("timeout", "How long a check may take, 30s without."),
    _time("start-period", "How long the process may fail checks at its start."),
    _time("start-interval", "How long to wait before each check in that time, 5s without."),
    click.option("--health-retries", type=click.IntRange(min=0), default=0, metavar="TIMES",
                 help="How many failures in a row make it unhealthy, 3 without."),
    click.option("--no-healthcheck", is_flag=True, help="Do not check, whatever the image says."),
)  # fmt: skip


def read_health(
    *,
    health_cmd: str | None,
    health_interval: int,
    health_timeout: int,
    health_start_period: int,
    health_start_interval: int,
    health_retries: int,
    no_healthcheck: bool,
) -> HealthCheck | None:
    """Return the check that the options ask for, None when they say nothing. Raises UsageError."""
    asked = HealthCheck(
        test=(SHELL_COMMAND, health_cmd) if health_cmd else (),
        interval_ns=health_interval,
        timeout_ns=health_timeout,
        start_period_ns=health_start_period,
        start_interval_ns=health_start_interval,
        retries=health_retries,
    )
    if not no_healthcheck:
        return None if asked == HealthCheck() else asked
    if asked != HealthCheck():
        raise UsageError("--no-healthcheck and the --health options exclude each other.")
    return HealthCheck(test=(NONE,))


def read_policy(text: str) -> RestartPolicy:
    """Read --restart. Raises UsageError."""
    name, colon, times = text.partition(":")
    name = name or NO
    if name not in POLICIES or (
        colon and (name != ON_FAILURE or not re.fullmatch("[0-9]+", times))
    ):
        raise UsageError(
            f"--restart {text!r} is no policy.",
            expected="no, on-failure, on-failure:TIMES, always or unless-stopped",
        )
    return RestartPolicy(name, int(times) if colon else 0)
