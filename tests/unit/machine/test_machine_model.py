"""The guest's document and the machine's limits."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from agent.tether import config
from converter.errors import UsageError
from converter.machine.model import Channel, GuestConfig, GuestVolume, RunConfig

KEY = bytes(range(32))


def test_the_document_has_the_agreed_form(guest: GuestConfig) -> None:
    assert json.loads(guest.encode(Channel.VIRTIO_SERIAL, KEY)) == {
        "schema": 1,
        "key": bytes(range(32)).hex(),
        "channel": {"kind": "virtio-serial", "name": "org.saltflat.tether"},
        "root": {"uuid": "01234567-89ab-cdef-0123-456789abcdef"},
        "hostname": "0123456789ab",
        "image": {"Cmd": ["sh"], "Env": ["A=b"]},
        "run": {
            "args": ["echo", "hi"],
            "entrypoint": None,
            "env": [],
            "user": None,
            "workdir": None,
            "tty": False,
            "stdin": True,
            "rows": None,
            "cols": None,
            "host_config": None,
        },
        "volumes": [],
        "network": None,
    }


def test_the_guest_reads_its_volumes(guest: GuestConfig) -> None:
    told = [
        GuestVolume(serial="ab" * 16, path="/a", read_only=True, copy=False),
        GuestVolume(serial="cd" * 16, path="/a/b", read_only=False, copy=True),
    ]
    document = config.load_document(guest.encode(Channel.SERIAL, KEY, told))
    assert config.parse_job(document).volumes == (
        config.Volume("ab" * 16, "/a", read_only=True, copy=False),
        config.Volume("cd" * 16, "/a/b", read_only=False, copy=True),
    )


def test_the_guest_reads_what_the_host_writes(guest: GuestConfig) -> None:
    run = RunConfig(args=(), entrypoint=("a",), env=("K=V",), user="1:2", workdir="/w", tty=True)
    for channel in Channel:
        document = config.load_document(replace(guest, run=run).encode(channel, KEY))
        assert config.parse_connection(document).key == KEY
        job = config.parse_job(document)
        assert job.root_uuid == guest.root_uuid
        assert job.image.command == ("sh",)
        assert job.run == config.RunConfig((), ("a",), ("K=V",), "1:2", "/w", tty=True)


def test_the_serial_line_is_the_first_port(guest: GuestConfig) -> None:
    document = json.loads(guest.encode(Channel.SERIAL, KEY))
    assert document["channel"] == {"kind": "serial", "device": "/dev/ttyS0"}


def test_a_key_has_32_bytes(guest: GuestConfig) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        guest.encode(Channel.SERIAL, b"short")


@pytest.mark.parametrize(("cpus", "processors"), [(1, 1), (0.5, 1), (1.5, 2), (4, 4)])
def test_fractions_of_processors_are_rounded_up(make_spec, cpus: float, processors: int) -> None:
    assert make_spec(cpus=cpus).processors == processors


@pytest.mark.parametrize(
    "change",
    [
        {"memory_mib": 96},
        {"cpus": 0},
        {"cpus": -1},
        {"cpus": math.inf},
        {"cpus": math.nan},
        {"chain": ()},
    ],
)
def test_machines_that_cannot_boot_are_refused(make_spec, change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        make_spec(**change)


def test_a_channel_may_be_given_by_name(make_spec) -> None:
    assert make_spec(channel="serial").channel is Channel.SERIAL
    with pytest.raises(ValueError, match="telepathy"):
        make_spec(channel="telepathy")
