"""Four thousand VMs on one concentrator: time to connect, memory of each, what a keystroke takes.

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

from agent.host.vspc.telnet import TelnetDecoder, escape
from tests.integration.vspc.many_vms import connect_all, echo_seconds, raise_limit, resident_bytes
from tests.integration.vspc.simulated_esxi import concentrator

VMS = 4000
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
