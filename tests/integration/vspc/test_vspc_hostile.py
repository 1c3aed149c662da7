"""Floods, stalls, resets and crowds at a concentrator: they cost nobody else anything."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from tests.integration.vspc.many_vms import (
    connect_all,
    echo_seconds,
    processor_seconds,
    resident_bytes,
)
from tests.integration.vspc.rooms import Room
from tests.integration.vspc.simulated_esxi import (
    concentrator,
)

pytestmark = pytest.mark.integration


def test_a_client_that_reads_nothing_slows_down_its_own_vm_only(room: Room) -> None:
    stuck, free = room.vm(), room.vm()
    stuck_host, free_host = room.connect(stuck), room.connect(free)
    lazy, client = room.client(stuck), room.client(free)
    lazy.reads = False
    size = 24 << 20
    stuck_host.write(bytes(size))
    free_host.write(b"x" * 1000)
    room.lab.until(lambda: len(client.received) == 1000)
    assert stuck_host.out, "the VM was read though nobody takes what it says"
    lazy.reads = True
    room.lab.until(lambda: len(lazy.received) == size)


def test_floods_disturb_nobody(room: Room) -> None:
    """Random bytes, commands without end, a huge suboption."""
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    choose = random.Random(3)
    floods = [
        choose.randbytes(1 << 20),
        b"\xff\xfd\x01\xff\xfe\x01" * 100_000,
        b"\xff\xfa\xe8" + bytes(1 << 20),
        b"\xff\xfa\xe8\x28\xff\xf0" * 100_000,
        bytes(1 << 20),
        b"\xff" * (1 << 20),
    ]
    hostile = []
    for flood in floods:
        attacker = room.host(room.vm(), opening=False)
        attacker.reads = False
        attacker.out += flood
        hostile.append(attacker)
    for number in range(50):
        host.write(b"%d " % number)
        client.out += b"%d " % number
    expected = b"".join(b"%d " % number for number in range(50))
    room.lab.until(lambda: client.received == vm.received == expected)
    for attacker in hostile:
        attacker.reads = True
    room.lab.until(lambda: all(attacker.closed for attacker in hostile))

    assert room.server.process.poll() is None


def test_resets_disturb_nobody(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    others = [room.connect(room.vm()) for _ in range(20)]
    for other in others:
        other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
    client = room.client(vm)
    host.write(b"fine")
    room.lab.until(lambda: client.received == b"fine")


def test_a_vm_that_resets_while_nobody_reads_it(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    lazy = room.client(vm)
    lazy.reads = False
    host.write(bytes(24 << 20))
    room.lab.until(lambda: len(host.out) < 24 << 20)
    host.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    host.close()
    used = processor_seconds(room.server.process.pid)
    again = room.host(vm)
    lazy.reads = True
    room.lab.until(lambda: again.served)
    room.lab.until(lambda: lazy.received.endswith(b"\0"))
    again.write(b"new")
    room.lab.until(lambda: lazy.received.endswith(b"new"))
    assert processor_seconds(room.server.process.pid) - used < 5.0  # it does not spin


def test_three_hundred_of_four_thousand(tmp_path: Path) -> None:
    """A slice of `scripts/bench vspc`: each has its own line, and the process stays small."""
    count = 300
    with concentrator(tmp_path) as server:
        before = resident_bytes(server.process.pid)
        socks = connect_all(server, count)
        try:
            grown = resident_bytes(server.process.pid) - before
            assert grown < count * 64 * 1024
            for vm in range(1, count + 1, 50):
                echo_seconds(server, vm, socks[vm - 1], 3)
        finally:
            for sock in socks:
                sock.close()
        assert server.stop() == 0


def test_who_says_nothing_is_sent_away(room: Room) -> None:
    """One that stops in the middle of TLS, or of telnet: it has 15 seconds, and blocks nobody.

    They began with the room, so this comes last.
    """
    slow = room.slow
    room.lab.add(slow)
    room.lab.until(lambda: slow.closed)
    vm = room.vm()
    assert room.connect(vm).served
