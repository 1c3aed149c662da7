"""The DHCP client's pipe, its restarts and its end, with real children; a lease is a VM test's."""

from __future__ import annotations

import os
import select
import signal
import zlib
from pathlib import Path

import pytest

from agent.tether import dhcp
from agent.tether.errors import StartError

WAIT_SECONDS = 20.0


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a shell script in the client's place."""
    path = tmp_path / "client"
    monkeypatch.setattr(dhcp, "PROGRAM", os.fspath(path))
    return path


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def read(client: dhcp.DhcpClient, count: int) -> list[dict[str, str]]:
    """Return `count` events."""
    events: list[dict[str, str]] = []
    while len(events) < count:
        assert select.select([client.descriptor], [], [], WAIT_SECONDS)[0], events
        events += [dict(event) for event in client.read()]
    return events


def wait_for_end(client: dhcp.DhcpClient, now: float) -> None:
    assert client._pid is not None
    os.waitid(os.P_PID, client._pid, os.WEXITED | os.WNOWAIT)
    client.look_for_end(now)


def test_events_come_whole_and_the_first_word_is_not_one(program):
    write(
        program,
        r"""
        printf 'event=deconfig\0interface=eth0\0\0'
        printf 'event=bound\0ip=10.0.0.5\0dom'; sleep 0.1; printf 'ain=a=b\0\0event=nak\0'
        sleep 0.1; printf '\0'; exec sleep 1000
        """,
    )
    client = dhcp.DhcpClient("eth0", "guest")
    client.start(0.0)
    assert read(client, 2) == [
        {"event": "bound", "ip": "10.0.0.5", "domain": "a=b"},
        {"event": "nak"},
    ]
    client.ask_to_end()
    client.close()


def test_what_it_is_asked_for(program):
    write(program, "printf 'event=args\\0args=%s\\0\\0' \"$*\"")
    client = dhcp.DhcpClient("eth7", "box")
    client.start(0.0, address="10.0.0.9")
    (event,) = read(client, 1)
    assert "-i eth7" in event["args"]
    assert "-x hostname:box" in event["args"]
    assert event["args"].endswith("-r 10.0.0.9")
    client.close()


def test_one_that_ends_is_started_again_later_and_later(program):
    write(program, "exit 3")
    client = dhcp.DhcpClient("eth0", "guest")
    now, pauses = 100.0, []
    for _ in range(8):
        client.start(now)
        assert client.due() is None
        wait_for_end(client, now)
        due = client.due()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    client.start(now)
    wait_for_end(client, now + 200)  # it ran well for a while
    assert client.due() == now + 201
    assert not client.take_end(1, 0, now)
    client.close()


def test_one_that_cannot_be_started_again_is_tried_later(program):
    write(program, "exit 3")
    client = dhcp.DhcpClient("eth0", "guest")
    client.start(0.0)
    wait_for_end(client, 0.0)
    program.chmod(0o644)  # for the time being, as where memory lacks
    with pytest.raises(StartError):
        client.start(1.0)
    assert client.due() == 3.0
    program.chmod(0o755)
    client.start(3.0)
    assert client.due() is None
    client.close()


def test_what_a_killed_one_began_to_say_is_forgotten(program):
    write(program, r"printf 'event=bound\0ip=10.0'; kill -KILL $$")
    client = dhcp.DhcpClient("eth0", "guest")
    client.start(0.0)
    wait_for_end(client, 0.0)
    assert client.read() == []
    write(program, r"printf 'event=deconfig\0\0event=bound\0ip=10.0.0.6\0\0'")
    client.start(1.0)
    assert read(client, 1) == [{"event": "bound", "ip": "10.0.0.6"}]
    client.close()


def test_one_that_does_not_want_to_end_is_killed(program, monkeypatch):
    monkeypatch.setattr(dhcp, "_RELEASE_SECONDS", 0.05)
    write(
        program, r"trap '' TERM; printf 'event=deconfig\0\0event=up\0\0'; while :; do sleep 1; done"
    )
    client = dhcp.DhcpClient("eth0", "guest")
    client.start(0.0)
    read(client, 1)
    pid = client._pid
    assert pid is not None
    client.ask_to_end()
    client.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_a_boot_image_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dhcp, "PROGRAM", os.fspath(tmp_path / "none"))
    monkeypatch.setattr(dhcp, "NEEDS", os.fspath(tmp_path / "needs"))
    client = dhcp.DhcpClient("eth0", "guest")
    with pytest.raises(StartError) as caught:
        client.start(0.0)
    assert caught.value.kind == "network"
    assert dhcp.needed_files() == ()
    (tmp_path / "needs").write_text("/a\n/b")
    assert dhcp.needed_files() == ("/a", "/b", dhcp.PROGRAM)
    client.close()


def test_the_program_is_unpacked_once(program, tmp_path, monkeypatch):
    packed = tmp_path / "client.z"
    monkeypatch.setattr(dhcp, "PACKED", os.fspath(packed))
    script = b"#!/bin/sh\nprintf 'event=deconfig\\0\\0event=up\\0\\0'; exec sleep 1000\n"
    packed.write_bytes(zlib.compress(script + b"#" * 100_000))
    client = dhcp.DhcpClient("eth0", "guest")
    client.start(0.0)
    assert read(client, 1) == [{"event": "up"}]
    assert not packed.exists()
    assert program.stat().st_size == len(script) + 100_000
    client.close()
