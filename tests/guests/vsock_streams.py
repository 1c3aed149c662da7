"""The host's end of virtual sockets, packet by packet: what travels in a virtio-vsock's queues.

Owns the streams between ports of the guest and unix sockets of this host, with their credit; how
packets get into the guest and out of it is `vsock`'s matter. virtio 1.2, 5.10.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# struct virtio_vsock_hdr: CIDs and ports of source and destination, length, type, operation,
# flags, buf_alloc, fwd_cnt.
_HEADER = struct.Struct("<QQIIIHHIII")
HEADER_BYTES = _HEADER.size
PORT = 1025  # of the host, where it listens for a machine's line
_STREAM = 1
_REQUEST, _RESPONSE, _RST, _SHUTDOWN, _RW, _CREDIT_UPDATE, _CREDIT_REQUEST = range(1, 8)
_BUFFER_BYTES = 262144


@dataclass
class _Stream:
    port: int  # the guest's
    there: tuple[int, int]  # the CID and the port that it believes to be connected to
    connection: socket.socket
    peer_buffer: int = 0
    peer_forwarded: int = 0
    sent: int = 0
    forwarded: int = 0

    @property
    def credit(self) -> int:
        """How many bytes the guest takes."""
        return self.peer_buffer - (self.sent - self.peer_forwarded & 0xFFFFFFFF)


class Streams:
    """All streams of one guest; `targets` are the unix sockets behind ports of the host.

    The host answers under whatever CID the guest calls it by.
    """

    def __init__(self, guest_cid: int, targets: Mapping[int, Path]) -> None:
        self._guest_cid = guest_cid
        self._targets = targets
        self._streams: dict[int, _Stream] = {}
        # The guest's port, whom it called, operation.
        self._control: deque[tuple[int, tuple[int, int], int]] = deque()

    def descriptors(self) -> list[int]:
        """Return what to wait on for packets."""
        return [one.connection.fileno() for one in self._streams.values() if one.credit > 0]

    def close(self) -> None:
        """Let go of all streams."""
        for stream in self._streams.values():
            stream.connection.close()
        self._streams.clear()

    # --- from the guest --------------------------------------------------------------------------

    def receive(self, header: bytes, data: bytes) -> None:
        """Take a packet of the guest's."""
        fields = _HEADER.unpack(header)
        port, length, operation = fields[2], fields[4], fields[6]
        there = (fields[1], fields[3])
        buffer, forwarded = fields[8:]
        if operation == _REQUEST:
            self._open(port, there)
        stream = self._streams.get(port)
        if stream is None:
            if operation not in (_RST, _REQUEST):
                self._control.append((port, there, _RST))
            return
        stream.peer_buffer, stream.peer_forwarded = buffer, forwarded
        if operation == _RW:
            try:
                stream.connection.sendall(data[:length])
            except OSError:
                self._end(stream)
                return
            stream.forwarded += length
            self._control.append((port, there, _CREDIT_UPDATE))
        elif operation == _CREDIT_REQUEST:
            self._control.append((port, there, _CREDIT_UPDATE))
        elif operation in (_SHUTDOWN, _RST):
            self._end(stream)

    def _open(self, port: int, there: tuple[int, int]) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            if there[1] not in self._targets:
                raise ConnectionRefusedError
            connection.connect(str(self._targets[there[1]]))
        except OSError:
            connection.close()
            self._control.append((port, there, _RST))
            return
        self._streams[port] = _Stream(port, there, connection)
        self._control.append((port, there, _RESPONSE))

    def _end(self, stream: _Stream) -> None:
        stream.connection.close()
        del self._streams[stream.port]
        self._control.append((stream.port, stream.there, _RST))

    # --- to the guest ----------------------------------------------------------------------------

    def has_packet(self) -> bool:
        """Say whether there is something for the guest."""
        return bool(self._control) or self._readable() is not None

    def next_packet(self, room: int) -> bytes:
        """Return the next packet, with at most `room` bytes of data; `has_packet` was true."""
        if self._control:
            return self._pack(*self._control.popleft(), b"")
        stream = self._readable()
        assert stream is not None
        try:
            data = stream.connection.recv(min(room, stream.credit))
        except ConnectionError:
            data = b""
        if not data:
            self._end(stream)
            return self._pack(*self._control.pop(), b"")
        stream.sent += len(data)
        return self._pack(stream.port, stream.there, _RW, data)

    def _readable(self) -> _Stream | None:
        for stream in self._streams.values():
            if stream.credit <= 0:
                continue
            try:
                stream.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                pass  # which `next_packet` meets as well
            return stream
        return None

    def _pack(self, port: int, there: tuple[int, int], operation: int, data: bytes) -> bytes:
        stream = self._streams.get(port)
        forwarded = 0 if stream is None else stream.forwarded & 0xFFFFFFFF
        rest = (there[1], port, len(data), _STREAM, operation, 0, _BUFFER_BYTES, forwarded)
        return _HEADER.pack(there[0], self._guest_cid, *rest) + data
