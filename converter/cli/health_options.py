"""What `run` takes of docker run's options about the process's life: restart policy, health check.

Owns docker's rules for their values (docker/cli, cli/command/container/opts.go). What they do is
decided in the guest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from agent.tether.health import NONE, SHELL_COMMAND, HealthCheck
from agent.tether.restart import NO, ON_FAILURE, POLICIES, RestartPolicy
from converter.cli.durations import Duration
from converter.errors import UsageError


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
