"""Thousands of idle VMs on one concentrator, in one small client process. Shared by bench and test.

Owns raw sockets and an epoll; the dialogue is the shortest that is served.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from pathlib import Path

from tests.integration.vspc.simulated_esxi import DO_PROXY, KNOWN_1, OPENING, Concentrator, Vm

PATIENCE_SECONDS = 120.0
_WILL_PROXY = b"\xff\xfa\xe8\x47\xff\xf0"
_KNOWN = bytes([0, 1, 70, 71, 73, 80, 81])


def raise_limit() -> int:
    """Let this process have as many descriptors as it may; return how many."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _suboption(code: int, parameters: bytes) -> bytes:
    return b"\xff\xfa\xe8" + bytes([code]) + parameters + b"\xff\xf0"


def _greeting(vm: Vm) -> bytes:
    """Return all that a host says until it is served; the UUID before it is asked for."""
    known = _suboption(KNOWN_1, _KNOWN)
    return OPENING + known + _suboption(DO_PROXY, b"Cu") + _suboption(80, vm.uuid.encode())


def connect_all(server: Concentrator, count: int) -> list[socket.socket]:
    """Connect `count` VMs at once and return their connections when all are served."""
    epoll = select.epoll()
    pending: dict[int, tuple[socket.socket, Vm, bytes]] = {}
    connected = []
    try:
        for number in range(1, count + 1):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(server.address)
            pending[sock.fileno()] = (sock, Vm(number), b"")
            connected.append(sock)
            epoll.register(sock.fileno(), select.EPOLLOUT)
        end = time.monotonic() + PATIENCE_SECONDS
        while pending:
            assert time.monotonic() < end, f"{len(pending)} of {count} VMs are not served"
            for descriptor, events in epoll.poll(1.0):
                sock, vm, heard = pending[descriptor]
                if events & select.EPOLLOUT:
                    sock.sendall(_greeting(vm))
                    epoll.modify(descriptor, select.EPOLLIN)
                    continue
                heard += sock.recv(65536)
                pending[descriptor] = (sock, vm, heard)
                if _WILL_PROXY in heard:
                    epoll.unregister(descriptor)
                    del pending[descriptor]
    except BaseException:
        for sock in connected:
            sock.close()
        raise
    finally:
        epoll.close()
    return connected


def echo_seconds(server: Concentrator, vm: int, sock: socket.socket, times: int) -> list[float]:
    """Send a byte from a client to a VM that sends it back, `times` over; return how long."""
    path = server.socket_of(Vm(vm))
    sock.setblocking(True)
    sock.settimeout(PATIENCE_SECONDS)
    found = []
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(path))
        for number in range(times):
            byte = bytes([97 + number % 26])
            started = time.perf_counter()
            client.sendall(byte)
            assert sock.recv(1) == byte
            sock.sendall(byte)
            assert client.recv(1) == byte
            found.append(time.perf_counter() - started)
    return found


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in fields if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
