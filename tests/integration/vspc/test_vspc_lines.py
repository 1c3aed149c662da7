"""The concentrator as a process, between simulated hosts and clients, over TCP and TLS on loopback.

No ESXi took part: what these hosts do is what its documents and two public servers say.
"""

from __future__ import annotations

import hashlib
import random
import socket
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.integration.vspc.rooms import Room
from tests.integration.vspc.simulated_esxi import (
    ABORT,
    BEGIN,
    COMPLETE,
    GOAHEAD,
    NOTNOW,
    PEER,
    PEER_OK,
    UNKNOWN_2,
)

pytestmark = pytest.mark.integration


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_byte_goes_both_ways(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    data = bytes(range(256)) * 2000
    host.write(data)
    client.out += data
    room.lab.until(lambda: len(client.received) == len(data) == len(vm.received))
    assert client.received == vm.received == data


def test_a_vmotion_in_the_middle_of_a_transfer(room: Room) -> None:
    """Both directions at full tilt, from before BEGIN to after COMPLETE, three hosts on."""
    choose = random.Random(5)
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    said = down = b""
    for number in range(3):
        more = choose.randbytes(300_000)
        client.out += more
        down += more
        before, tail, after = (choose.randbytes(size) for size in (200_000, 70_000, 50_000))
        host.write(before)
        target = room.migrate(
            host, sequence=number.to_bytes(4, "big"), tail=tail, close_first=number == 1
        )
        target.write(after)
        said += before + tail + after
        host = target
    room.lab.until(lambda: (len(client.received), len(vm.received)) == (len(said), len(down)))
    assert sha256(client.received) == sha256(said)
    assert sha256(vm.received) == sha256(down)
    assert vm.violations == []


def test_peer_before_its_own_options(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    target = room.migrate(host, sequence=b"\xff\xff\xff\xff", tail=b"a", before_options=True)
    client.out += b"down"
    target.write(b"b")
    room.lab.until(lambda: client.received == b"ab" and vm.received == b"down")
    room.lab.until(lambda: target.served)


def test_two_vmotions_at_once(room: Room) -> None:
    vms = room.vm(), room.vm()
    sources = [room.connect(vm) for vm in vms]
    clients = [room.client(vm) for vm in vms]
    for source in sources:
        source.say(BEGIN, b"same")
    room.lab.until(lambda: all(source.heard(GOAHEAD) for source in sources))
    targets = []
    for source, client in zip(sources, clients, strict=True):
        client.out += source.vm.name.encode()
        target = room.host(source.vm)
        target.running = False
        target.say(PEER, source.heard(GOAHEAD))
        targets.append(target)
    room.lab.until(lambda: all(target.heard(PEER_OK) for target in targets))
    for source, target in zip(sources, targets, strict=True):
        source.close()
        target.running = True
        target.say(COMPLETE, b"same")
        target.write(b"from " + source.vm.name.encode())
    for vm, client in zip(vms, clients, strict=True):
        room.lab.until(lambda vm=vm: vm.received == vm.name.encode())
        room.lab.until(lambda c=client, vm=vm: c.received == b"from " + vm.name.encode())
        assert vm.violations == []


def test_not_now_and_again(room: Room) -> None:
    """A VM that takes nothing cannot be moved, and can be once it does."""
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    data = random.Random(1).randbytes(12 << 20).replace(b"\xff", b"")  # more than all buffers hold
    host.reads = False
    client.out += data
    room.lab.settle()
    assert client.out
    started = time.monotonic()
    host.say(BEGIN, b"one")
    room.lab.until(lambda: time.monotonic() - started > 4.2)
    host.reads = True
    room.lab.until(lambda: host.heard(NOTNOW) is not None)
    assert host.heard(NOTNOW) == b"one"
    assert host.heard(GOAHEAD) is None
    target = room.migrate(host, sequence=b"two")
    room.lab.until(lambda: len(vm.received) == len(data))
    assert sha256(vm.received) == sha256(data)
    assert vm.violations == []
    assert not target.closed


def test_an_abort(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.say(BEGIN, b"seq")
    room.lab.until(lambda: host.heard(GOAHEAD) is not None)
    target = room.host(vm)
    target.running = False
    target.say(PEER, host.heard(GOAHEAD))
    client.out += b"held"
    room.lab.until(lambda: target.heard(PEER_OK) is not None and not client.out)
    host.running = True
    host.say(ABORT, b"seq")
    host.write(b"on")
    room.lab.until(lambda: vm.received == b"held" and client.received == b"on" and target.closed)
    assert vm.violations == []


def test_a_target_that_is_refused(room: Room) -> None:
    """There is no word for it in the document: UNKNOWN-SUBOPTION-RCVD-2, then the end."""
    vm = room.vm()
    host = room.connect(vm)
    stranger = room.host(room.vm())
    stranger.say(PEER, b"\0\0\0\7\1\2\3\4")
    room.lab.until(lambda: stranger.closed)
    assert stranger.heard(UNKNOWN_2) == bytes([PEER])
    assert stranger.heard(PEER_OK) is None
    assert room.migrate(host, sequence=b"seq").closed is False


def test_a_vmotion_of_a_vm_that_nobody_knows(room: Room) -> None:
    silent = room.host(room.vm(), answers=False)
    silent.say(BEGIN, b"seq")
    room.lab.until(lambda: silent.heard(NOTNOW) == b"seq")
    silent.close()


def test_a_source_that_never_closes(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.say(BEGIN, b"seq")
    room.lab.until(lambda: host.heard(GOAHEAD) is not None)
    target = room.host(vm)
    target.running = False
    target.say(PEER, host.heard(GOAHEAD))
    room.lab.until(lambda: target.heard(PEER_OK) is not None)
    target.running = True
    target.say(COMPLETE, b"seq")
    target.write(b" new")
    host.write(b"tail")
    room.lab.until(lambda: client.received == b"tail new")
    room.lab.until(lambda: host.closed)


def test_a_power_cycle(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    client = room.client(vm)
    host.write(b"old ")
    room.lab.until(lambda: client.received == b"old ")
    again = room.connect(vm)
    again.write(b"new")
    room.lab.until(lambda: client.received == b"old new" and host.closed)
    client.out += b"down"
    room.lab.until(lambda: vm.received == b"down")


def test_clients_come_and_go(room: Room) -> None:
    vm = room.vm()
    host = room.connect(vm)
    path = room.server.socket_of(vm)
    assert path.stat().st_mode & 0o777 == 0o600
    host.write(b"before anybody listened")
    first = room.client(vm)
    room.lab.until(lambda: first.received == b"before anybody listened")
    second = room.client(vm)
    room.lab.until(lambda: second.closed)
    assert second.received == b""
    first.out += b"last words"
    room.lab.until(lambda: not first.out)
    first.close()  # with its words still on the way
    room.lab.until(lambda: vm.received == b"last words")
    third = room.client(vm)
    host.write(b"for the third")
    room.lab.until(lambda: third.received == b"for the third")
    third.socket.shutdown(socket.SHUT_WR)  # says no more, but listens
    host.write(b"!")
    room.lab.until(lambda: third.received == b"for the third!")


def test_socat_is_a_client(room: Room, tool: Callable[[str], str]) -> None:
    vm = room.vm()
    host = room.connect(vm)
    command = [tool("socat"), "-t", "20", "-", f"UNIX-CONNECT:{room.server.socket_of(vm)}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as socat:
        assert socat.stdin is not None
        assert socat.stdout is not None
        socat.stdin.write(b"hello\xff\0")
        socat.stdin.flush()
        room.lab.until(lambda: vm.received == b"hello\xff\0")
        host.write(b"\xff\0world")
        room.lab.until(lambda: not host.out)
        assert socat.stdout.read(7) == b"\xff\0world"
        socat.terminate()
