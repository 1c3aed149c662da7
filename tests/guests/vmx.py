"""A VMware hypervisor as its guest sees it: what it answers (RPCI) and what it asks (TCLO).

Owns the hypervisor's side of the calls and of the packets on a socket; `backdoor` has the other way
to it. Written from open-vm-tools, whose vmtoolsd took it for a hypervisor; it shares nothing with
the agent.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Protocol

# lib/rpcChannel/simpleSocket.c, lib/dataMap/dataMap.c: a length, then fields. INT64 is its low
# half, then its high one.
TYPE_DATA, TYPE_PING = 1, 2
_LONGEST = 1 << 20

Packet = tuple[int | None, bytes | None]


class Readable(Protocol):
    """A connection to read from."""

    def recv(self, count: int, /) -> bytes:
        """Return up to `count` bytes, none at the end."""


class Connected(Readable, Protocol):
    """A connection."""

    def sendall(self, data: bytes, /) -> None:
        """Send all bytes."""


class Vmx:
    """What a machine's hypervisor knows of its guest. `answer` is one RPCI call."""

    def __init__(self, variables: Mapping[str, bytes] | None = None) -> None:
        self.variables = dict(variables or {})
        self.calls: list[bytes] = []
        self.info: dict[int, bytes] = {}  # the guest's own words, by kind (SetGuestInfo)

    def answer(self, call: bytes) -> bytes:
        """Return the reply to a call."""
        self.calls.append(call)
        verb, _, rest = call.partition(b" ")
        if verb == b"info-get":
            found = self.variables.get(rest.rstrip(b"\0").decode())
            return b"0 No value found" if found is None else b"1 " + found
        if verb == b"info-set":
            name, _, value = rest.partition(b" ")
            self.variables[name.decode()] = value
            return b"1 "
        if verb == b"SetGuestInfo":
            kind, _, value = rest.lstrip(b" ").partition(b" ")
            self.info[int(kind)] = value
            return b"1 "
        if verb.startswith((b"tools.", b"vmx.capability.", b"log")):
            return b"1 "
        return b"0 Unknown command"


def encode(payload: bytes) -> bytes:
    """Return a packet of data."""
    fields = struct.pack(">4I", 1, 1, TYPE_DATA, 0)
    fields += struct.pack(">3I", 2, 2, len(payload)) + payload
    return struct.pack(">I", len(fields)) + fields


def read(connected: Readable) -> Packet | None:
    """Return kind and payload of the next packet, None at the end of the connection."""
    head = _exactly(connected, 4)
    if head is None:
        return None
    (length,) = struct.unpack(">I", head)
    assert length <= _LONGEST, length
    content = _exactly(connected, length)
    assert content is not None
    kind, payload, at = None, None, 0
    while at < length:
        sort, number = struct.unpack_from(">2I", content, at)
        at += 8
        if sort == 1:  # INT64
            low, high = struct.unpack_from(">2I", content, at)
            at += 8
            if number == 1:
                kind = high << 32 | low
        else:
            assert sort == 2, sort  # STRING
            (size,) = struct.unpack_from(">I", content, at)
            at += 4 + size
            assert at <= length
            if number == 2:
                payload = content[at - size : at]
    return kind, payload


def serve(connected: Connected, vmx: Vmx) -> None:
    """Answer the calls of one connection until the guest closes it."""
    while (packet := read(connected)) is not None:
        kind, payload = packet
        assert kind == TYPE_DATA, kind
        assert payload is not None
        connected.sendall(encode(vmx.answer(payload)))


def ask(connected: Connected, request: bytes) -> bytes:
    """Make a request of the guest; return its answer. Pings in between are passed over."""
    connected.sendall(encode(request))
    while True:
        packet = read(connected)
        assert packet is not None, request
        kind, payload = packet
        if kind == TYPE_DATA:
            assert payload is not None
            return payload


def _exactly(connected: Readable, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = connected.recv(count - len(data))
        if not piece:
            assert not data, data
            return None
        data += piece
    return data
