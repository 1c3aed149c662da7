"""Which machines a filter shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.relay.life import HealthReport
from agent.host.status import ExitStatus
from converter.cli.filters import passes, read_filters, shows_all
from converter.errors import UsageError
from converter.machine.machines import MachineRecord, Status

DIGEST = "sha256:" + "ab12" * 16


def record(**members):
    return MachineRecord(
        **{
            "id": "3f2a" + "0" * 60,
            "name": "web-1",
            "status": Status.RUNNING,
            "image": "debian:12",
            "image_digest": DIGEST,
            "created_ns": 0,
            **members,
        }
    )


EXITED = record(status=Status.EXITED, end=ExitStatus(7))


@pytest.mark.parametrize(
    ("filters", "machine", "shown"),
    [
        ([], record(), True),
        (["name=web"], record(), True),
        (["name=^eb"], record(), False),
        (["name=^web-[0-9]$"], record(), True),
        (["id=3f2a"], record(), True),
        (["id=f2a"], record(), False),
        (["status=running"], record(), True),
        (["status=running"], record(restarting=True), False),
        (["status=restarting"], record(restarting=True), True),
        (["status=restarting"], record(), False),
        (["health=none"], record(), True),
        (["health=healthy"], record(), False),
        (["health=healthy"], record(health=HealthReport("healthy")), True),
        (["health=unhealthy", "health=healthy"], record(health=HealthReport("healthy")), True),
        (["status=exited"], record(), False),
        (["status=exited", "status=running"], record(), True),
        (["status=running", "name=db"], record(), False),
        (["name=db", "name=web"], record(), True),
        (["exited=7"], EXITED, True),
        (["exited=0"], EXITED, False),
        (["exited=0"], record(end=ExitStatus(0)), False),
        (["ancestor=debian:12"], record(), True),
        (["ancestor=docker.io/library/debian:12"], record(), True),
        (["ancestor=debian"], record(), False),
        (["ancestor=debian"], record(image="docker.io/library/debian:latest"), True),
        (["ancestor=debian"], record(image="registry.example/debian:latest"), False),
        ([f"ancestor={DIGEST}"], record(), True),
        (["ancestor=ab12ab12"], record(), True),
        (["ancestor=sha256:ab"], record(), True),
        (["ancestor=ab12"], record(), False),  # an image may be called that
        (["ancestor=oci:./layout:1"], record(image="oci:./layout:1"), True),
        (["ancestor=bundle:x"], record(image="bundle:x"), True),
        (["label=tier"], record(labels={"tier": "web"}), True),
        (["label=tier=web", "label=team"], record(labels={"tier": "web", "team": ""}), True),
        (["label=tier=web", "label=team"], record(labels={"tier": "web"}), False),
        (["label=tier=db"], record(labels={"tier": "web"}), False),
        (["label=tier="], record(labels={"tier": "web"}), False),
    ],
)
def test_what_is_shown(filters, machine, shown):
    assert passes(machine, read_filters(filters)) is shown


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "name=",
        "=x",
        "nothing=x",
        "name=[",
        "status=paused",
        "health=good",
        "exited=x",
        "exited=-1",
    ],
)
def test_filters_that_are_none(text):
    with pytest.raises(UsageError) as caught:
        read_filters([text])
    assert caught.value.expected


def test_filters_about_the_end_show_what_does_not_run():
    assert shows_all(read_filters(["status=created"]))
    assert shows_all(read_filters(["exited=0"]))
    assert not shows_all(read_filters(["name=x", f"ancestor={Path('x')}"]))
