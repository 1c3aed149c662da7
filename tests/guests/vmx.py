"""A VMware hypervisor as its guest sees it: what it answers (RPCI) and what it asks (TCLO).

Owns the hypervisor's side of the calls and of the packets on a virtual socket; `backdoor` has the
other way to it. Written from open-vm-tools, and tried with that (docs/vmware-guest.md); it shares
nothing with the agent. It also runs inside a guest, as a part of /init, where little of the library
is: it imports `struct`, and is given its sockets.
"""

from __future__ import annotations

import struct

# lib/rpcChannel/simpleSocket.c, lib/dataMap/dataMap.c: a length, then fields. INT64 is its low
# half, then its high one.
_TYPE_DATA, _TYPE_PING = 1, 2
_LONGEST = 1 << 20


class Vmx:
    """What a machine's hypervisor knows of its guest. `answer` is one RPCI call."""

    def __init__(self, variables=None):
        self.variables = dict(variables or {})
        self.calls = []
        self.info = {}  # the guest's own words, by kind (SetGuestInfo)
        self.refused = set()  # verbs that it does not know
        self.pings = 0

    def answer(self, call):
        """Return the reply to a call."""
        self.calls.append(call)
        verb, _, rest = call.partition(b" ")
        if verb.decode() in self.refused:
            return b"0 Unknown command"
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


def encode(payload, kind=_TYPE_DATA):
    """Return a packet."""
    fields = struct.pack(">4I", 1, 1, kind, 0)
    if payload is not None:
        fields += struct.pack(">3I", 2, 2, len(payload)) + payload
    return struct.pack(">I", len(fields)) + fields


def read(connected):
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


def serve(connected, vmx):
    """Answer the calls of one connection until the guest closes it."""
    while (packet := read(connected)) is not None:
        kind, payload = packet
        if kind == _TYPE_DATA:
            connected.sendall(encode(vmx.answer(payload)))


def ask(connected, request, vmx):
    """Make a request of the guest; return its answer. Pings in between are counted."""
    connected.sendall(encode(request))
    while True:
        packet = read(connected)
        assert packet is not None, request
        if packet[0] == _TYPE_DATA:
            return packet[1]
        vmx.pings += 1


def _exactly(connected, count):
    data = b""
    while len(data) < count:
        piece = connected.recv(count - len(data))
        if not piece:
            assert not data, data
            return None
        data += piece
    return data
