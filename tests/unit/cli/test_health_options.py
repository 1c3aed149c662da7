"""Restart policies and health checks as docker's command line takes them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from agent.tether.health import HealthCheck
from agent.tether.restart import RestartPolicy
from converter.cli.health_options import HEALTH_OPTIONS, read_health, read_policy
from converter.errors import UsageError

SECOND = 10**9


def asked(*arguments):
    """Return what the options mean. Raises UsageError, or click's own as SystemExit."""
    found = []

    def take(**given):
        found.append(read_health(**given))

    command = click.command()(take)
    for option in HEALTH_OPTIONS:
        command = option(command)
    result = CliRunner().invoke(command, arguments)
    if result.exception is not None:
        raise result.exception
    return found[0]


def test_nothing_asked_for_leaves_the_image_s():
    assert asked() is None


def test_all_of_it():
    check = asked(
        *("--health-cmd", "curl localhost", "--health-interval", "1m30s"),
        *("--health-timeout", "1.5s", "--health-start-period", "2h"),
        *("--health-start-interval", "500ms", "--health-retries", "4"),
    )
    assert check == HealthCheck(
        ("CMD-SHELL", "curl localhost"),
        90 * SECOND,
        3 * SECOND // 2,
        7200 * SECOND,
        SECOND // 2,
        4,
    )


def test_a_part_leaves_the_rest_to_the_image():
    assert asked("--health-retries", "4") == HealthCheck(retries=4)
    assert asked("--health-interval", "0") is None


def test_none_at_all():
    assert asked("--no-healthcheck") == HealthCheck(("NONE",))
    with pytest.raises(UsageError, match="exclude each other"):
        asked("--no-healthcheck", "--health-cmd", "true")


@pytest.mark.parametrize("time", ["", "5", "-1s", "1x", "s", "1s ", "10us", "1e9s", "9999999h"])
def test_what_is_no_time(time):
    with pytest.raises(SystemExit):
        asked("--health-interval", time)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy("no")),
        ("", RestartPolicy("no")),
        ("always", RestartPolicy("always")),
        ("unless-stopped", RestartPolicy("unless-stopped")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:3", RestartPolicy("on-failure", 3)),
    ],
)
def test_policies(text, policy):
    assert read_policy(text) == policy


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:", "on-failure:-1", "no:1"])
def test_what_is_no_policy(text):
    with pytest.raises(UsageError, match="--restart"):
        read_policy(text)
