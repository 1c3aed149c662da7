"""The host's end of virtual sockets, packet by packet: what travels in a virtio-vsock's queues.

Owns the streams between ports of the guest and a unix socket of this host, with their credit; how
packets get into the guest and out of it is `vsock`'s matter. virtio 1.2, 5.10.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass
from pathlib import Path

# struct virtio_vsock_hdr: CIDs and ports of source and destination, length, type, operation,
# flags, buf_alloc, fwd_cnt.
_HEADER = struct.Struct("<QQIIIHHIII")
HEADER_BYTES = _HEADER.size
HOST_CID = 2
PORT = 1025  # of the host, the only one that somebody listens to
_STREAM = 1
_REQUEST, _RESPONSE, _RST, _SHUTDOWN, _RW, _CREDIT_UPDATE, _CREDIT_REQUEST = range(1, 8)
_BUFFER_BYTES = 262144


@dataclass
class _Stream:
    port: int  # the guest's
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
    """All streams of one guest; the unix socket `target` is behind the host's port."""

    def __init__(self, guest_cid: int, target: Path) -> None:
        self._guest_cid = guest_cid
        self._target = target
        self._streams: dict[int, _Stream] = {}
        self._control: deque[tuple[int, int, int]] = deque()  # port, operation, flags

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
        port, to_port, length, operation = fields[2], fields[3], fields[4], fields[6]
        buffer, forwarded = fields[8:]
        if operation == _REQUEST:
            self._open(port, to_port)
        stream = self._streams.get(port)
        if stream is None:
            if operation not in (_RST, _REQUEST):
                self._control.append((port, _RST, 0))
            return
        stream.peer_buffer, stream.peer_forwarded = buffer, forwarded
        if operation == _RW:
            try:
                stream.connection.sendall(data[:length])
            except OSError:
                self._end(stream)
                return
            stream.forwarded += length
            self._control.append((port, _CREDIT_UPDATE, 0))
        elif operation == _CREDIT_REQUEST:
            self._control.append((port, _CREDIT_UPDATE, 0))
        elif operation in (_SHUTDOWN, _RST):
            self._end(stream)

    def _open(self, port: int, to_port: int) -> None:
        connection = socket.socket(socket.AF_UNIX)
        try:
            if to_port != PORT:
                raise ConnectionRefusedError
            connection.connect(str(self._target))
        except OSError:
            connection.close()
            self._control.append((port, _RST, 0))
            return
        self._streams[port] = _Stream(port, connection)
        self._control.append((port, _RESPONSE, 0))

    def _end(self, stream: _Stream) -> None:
        stream.connection.close()
        del self._streams[stream.port]
        self._control.append((stream.port, _RST, 0))

    # --- to the guest ----------------------------------------------------------------------------

    def has_packet(self) -> bool:
        """Say whether there is something for the guest."""
        return bool(self._control) or self._readable() is not None

    def next_packet(self, room: int) -> bytes:
        """Return the next packet, with at most `room` bytes of data; `has_packet` was true."""
        if self._control:
            port, operation, flags = self._control.popleft()
            return self._pack(port, operation, flags, b"")
        stream = self._readable()
        assert stream is not None
        try:
            data = stream.connection.recv(min(room, stream.credit))
        except ConnectionError:
            data = b""
        if not data:
            self._end(stream)
            port, operation, flags = self._control.pop()
            return self._pack(port, operation, flags, b"")
        stream.sent += len(data)
        return self._pack(stream.port, _RW, 0, data)

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

    def _pack(self, port: int, operation: int, flags: int, data: bytes) -> bytes:
        stream = self._streams.get(port)
        forwarded = 0 if stream is None else stream.forwarded & 0xFFFFFFFF
        ports = (PORT, port, len(data), _STREAM, operation, flags, _BUFFER_BYTES, forwarded)
        return _HEADER.pack(HOST_CID, self._guest_cid, *ports) + data
