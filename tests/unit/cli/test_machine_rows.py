"""What ps and inspect say of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.host.relay.life import HealthReport
from agent.host.status import ExitStatus, Failure
from converter.cli.durations import SECOND_NS
from converter.cli.machine_rows import (
    HEADINGS,
    TABLE,
    paragraph,
    ports_words,
    row,
    status_words,
)
from converter.cli.templates import read_template
from converter.machine.machines import MachineRecord, Status
from converter.machine.model import GuestConfig, MachineSpec, RunConfig
from converter.network.model import Binding, Card, Networking
from tinykernel.record import BootImage

NOW = 1_800_000_000 * SECOND_NS
MINUTE = 60 * SECOND_NS


BOOT = BootImage(
    *(Path("boot"), "ab" * 32, "amd64", "linux-image", "6.1.0", "00" * 32, "00" * 32),
    *((), "3.11", None, 1, ()),
)


def record(**members):
    return MachineRecord(
        **{
            "id": "3f2a9b1c0d4e" + "0" * 52,
            "name": "web",
            "status": Status.RUNNING,
            "image": "debian:12",
            "image_digest": "sha256:" + "ab" * 32,
            "created_ns": NOW - 10 * MINUTE,
            "started_ns": NOW - 3 * MINUTE,
            **members,
        }
    )


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "Up 3 minutes"),
        ({"health": HealthReport("starting")}, "Up 3 minutes (health: starting)"),
        ({"health": HealthReport("healthy")}, "Up 3 minutes (healthy)"),
        ({"health": HealthReport("unhealthy", 3)}, "Up 3 minutes (unhealthy)"),
        (
            {
                "restarting": True,
                "end": ExitStatus(1, restarts=True),
                "finished_ns": NOW - 3 * SECOND_NS,
            },
            "Restarting (1) 3 seconds ago",
        ),
        ({"started_ns": NOW + MINUTE}, "Up Less than a second"),
        ({"status": Status.CREATED, "started_ns": None}, "Created"),
        ({"status": Status.DEAD}, "Dead"),
        (
            {"status": Status.EXITED, "end": ExitStatus(7), "finished_ns": NOW - 120 * MINUTE},
            "Exited (7) 2 hours ago",
        ),
        (
            {
                "status": Status.EXITED,
                "end": ExitStatus(255),
                "finished_ns": NOW - MINUTE,
                "reason": "The host\x1b[31m was restarted.",
            },
            "Exited (255) About a minute ago: The host\ufffd[31m was restarted.",
        ),
        ({"status": Status.EXITED}, "Exited (?)"),
    ],
)
def test_status(members, words):
    assert status_words(record(**members), NOW) == words


def test_a_row_and_its_table():
    spec = MachineSpec(
        chain=(Path("/links/a.vmdk"),),
        capacity_bytes=1 << 30,
        boot=BOOT,
        guest=GuestConfig(
            root_uuid="6b8e54d2-3f0a-4c1e-9f5d-2a7c1b0e9d84",
            hostname="host",
            image={"Entrypoint": ["/entry"], "Cmd": ["unused"]},
            run=RunConfig(args=("sh", "-c", "echo \x07 hello to everybody")),
        ),
    )
    fields = row(record(spec=spec), NOW, whole=False)
    assert fields["ID"] == "3f2a9b1c0d4e"
    assert fields["Command"] == '"/entry sh -c \'echo \u2026"'
    assert fields["RunningFor"] == "10 minutes ago"
    whole = row(record(spec=spec), NOW, whole=True)
    assert whole["ID"] == record().id
    assert whole["Command"] == "\"/entry sh -c 'echo \ufffd hello to everybody'\""
    assert set(fields) == set(HEADINGS)
    heading, line = read_template(TABLE, HEADINGS).lines([fields], HEADINGS)
    assert heading.split()[:2] == ["MACHINE", "ID"]
    assert line.endswith("web")
    assert line.index("Up 3") == heading.index("STATUS")


def test_a_dead_machine_has_a_row_and_a_paragraph_too():
    dead = record(status=Status.DEAD, spec=None)
    assert set(row(dead, NOW, whole=False)) == set(HEADINGS)
    assert "status: Dead" in paragraph(dead, NOW)


def test_why_there_was_no_process_is_in_the_paragraph():
    end = ExitStatus(127, failure=Failure("command", "exec: 'nothing': not found"))
    assert "exec: 'nothing': not found" in paragraph(record(status=Status.EXITED, end=end), NOW)


def networked(**members: object) -> MachineRecord:
    """Return a machine with ports, as members change it."""
    spec = MachineSpec(
        chain=(Path("/links/a.vmdk"),),
        capacity_bytes=1 << 30,
        boot=BOOT,
        guest=GuestConfig(root_uuid="", hostname="host", image={}, run=RunConfig()),
        networking=Networking(
            cards=(Card(mac="02:42:00:00:00:01"),), exposed=("80/tcp", "9000/tcp")
        ),
    )
    places = [
        (80, "tcp", 8080),
        (81, "tcp", 8081),
        (82, "tcp", 8082),
        (90, "tcp", 1),
        (53, "udp", 5),
    ]
    ports = tuple(
        Binding(container=container, protocol=protocol, host_ip="0.0.0.0", host_port=port)
        for container, protocol, port in places
    )
    return record(spec=spec, ports=ports, **members)


def test_ports_are_shown_as_docker_does():
    assert ports_words(networked()) == (
        "0.0.0.0:8080-8082->80-82/tcp, 0.0.0.0:1->90/tcp, 0.0.0.0:5->53/udp, 9000/tcp"
    )
    assert ports_words(networked(status=Status.EXITED)) == ""


def test_the_network_in_the_paragraph():
    told = {
        "interfaces": [{"name": "eth0", "addresses": ["10.0.2.15/24"]}],
        "warnings": ["eth1: \x1b[31m its link is down"],
    }
    text = paragraph(networked(network=told), NOW)
    assert "network: user, virtio-net 02:42:00:00:00:01 10.0.2.15/24\n" in text
    assert "warning: eth1: \ufffd[31m its link is down\n" in text
    assert "ports: 0.0.0.0:8080-8082->80-82/tcp" in text


def test_the_network_in_the_document():
    document = networked(network=None)._network_json()
    assert document["ports"]["80/tcp"] == [{"host_ip": "0.0.0.0", "host_port": 8080}]
    assert document["ports"]["9000/tcp"] == []
    assert document["interfaces"] == []
