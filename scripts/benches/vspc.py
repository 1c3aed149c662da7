"""Thousands of VMs on one concentrator: time to connect, memory of each, what a keystroke takes.

First as sockets, then as machines that are relayed, each with a session of its own.

The peer of the keystroke is the same echo through two plain relaying system calls: a client and a
"VM" that are joined by one Unix socket and one TCP connection with nothing in between.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path

from agent.host.relay.roster import Roster
from agent.host.vspc.telnet import TelnetDecoder, escape
from tests.integration.vspc.many_guests import Guests
from tests.integration.vspc.many_vms import (
    connect_all,
    echo_seconds,
    processor_seconds,
    raise_limit,
    resident_bytes,
)
from tests.integration.vspc.simulated_esxi import Vm, concentrator

VMS = 4000
RELAYED = 2000
_IDLE_SECONDS = 30.0
_ECHOES = 2000
_CHUNK = 65536


def run(rounds: int) -> dict[str, object]:
    """Connect, measure, and let go, `rounds` times over for the codec, once for the VMs."""
    count = min(VMS, (raise_limit() - 100) // 4)  # the concentrator takes three for each
    with (
        tempfile.TemporaryDirectory(prefix="vspc-") as folder,
        concentrator(Path(folder)) as server,
    ):
        before = resident_bytes(server.process.pid)
        started = time.perf_counter()
        socks = connect_all(server, count)
        connecting = time.perf_counter() - started
        idle = resident_bytes(server.process.pid)
        echoes = [
            second
            for vm in range(1, count, count // 20)
            for second in echo_seconds(server, vm, socks[vm - 1], _ECHOES // 20)
        ]
        for sock in socks:
            sock.close()
    plain = _plain_echo()
    return {
        **_relayed(RELAYED),
        "VMs": {"connected at once": count},
        "seconds": {"until all are served": connecting},
        "bytes": {"of the process before": before, "for each idle VM": (idle - before) // count},
        "microseconds of a keystroke and its echo": {
            "median": statistics.median(echoes) * 1e6,
            "p99": statistics.quantiles(echoes, n=100)[98] * 1e6,
            "median without the concentrator (TCP alone)": statistics.median(plain) * 1e6,
        },
        "telnet MB/s": _codec(rounds),
    }


def _relayed(count: int) -> dict[str, object]:
    """Return what machines cost: known, with a session each, and idle with it."""
    count = min(count, (raise_limit() - 100) // 6)
    with tempfile.TemporaryDirectory(prefix="vspc-") as name:
        roster = Roster(Path(name) / "relays")
        vms = [Vm(number) for number in range(1, count + 1)]
        keys = [roster.add(vm.name, vm.uuid).key for vm in vms]
        with concentrator(Path(name), sockets=True) as bare:
            before = resident_bytes(bare.process.pid)
        arguments = ["--relays", str(roster.directory)]
        started = time.perf_counter()
        with concentrator(Path(name), *arguments, sockets=False) as server:
            pid = server.process.pid
            journals = [roster.folder(vm.name) / "journal" for vm in vms]
            while not all(journal.exists() for journal in journals):
                time.sleep(0.05)
            opening = time.perf_counter() - started
            known = resident_bytes(pid)
            started = time.perf_counter()
            connections = connect_all(server, count)
            guests = Guests(connections, keys)
            guests.meet_all()
            meeting = time.perf_counter() - started
            met = resident_bytes(pid)
            used = processor_seconds(pid)
            asked = guests.idle(_IDLE_SECONDS)
            used = processor_seconds(pid) - used
            guests.close()
            for connected in connections:
                connected.close()
    return {
        "relayed machines": {"with a session each": count},
        "relayed: seconds": {
            "until all have a relay": opening,
            "until all have a session": meeting,
        },
        "relayed: bytes": {
            "for each machine that is known": (known - before) // count,
            "for each with a session, in all": (met - before) // count,
        },
        "relayed: idle": {
            "share of a processor": used / _IDLE_SECONDS,
            "questions to guests per second": asked / _IDLE_SECONDS,
        },
    }


def _plain_echo() -> list[float]:
    """Return round trips over a TCP connection whose other end is a thread that echoes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        vm, _ = listener.accept()
    for sock in (client, vm):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def echo() -> None:
        while data := vm.recv(1):
            vm.sendall(data)

    thread = threading.Thread(target=echo)
    thread.start()
    found = []
    for _ in range(_ECHOES):
        started = time.perf_counter()
        client.sendall(b"x")
        client.recv(1)
        found.append(time.perf_counter() - started)
    client.close()
    thread.join()
    vm.close()
    return found


def _codec(rounds: int) -> dict[str, float]:
    """Return the decoder's and encoder's speed on the kinds of bytes that matter."""
    kinds = {
        "text": b"all quiet on the serial line\r\n" * (_CHUNK // 30),
        "every byte in turn": bytes(range(256)) * (_CHUNK // 256),
        "all FF": b"\xff" * _CHUNK,
    }
    found = {}
    for name, data in kinds.items():
        line = escape(data)
        found[f"decode {name}"] = len(data) / 1e6 / _best(lambda line=line: _decode(line), rounds)
        found[f"encode {name}"] = len(data) / 1e6 / _best(lambda data=data: escape(data), rounds)
    return found


def _decode(line: bytes) -> None:
    for _event in TelnetDecoder().feed(line):
        pass


def _best(call: object, rounds: int) -> float:
    assert callable(call)
    times = []
    for _ in range(max(rounds, 1) * 20):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
