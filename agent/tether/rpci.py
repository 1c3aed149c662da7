"""Calls of the guest to its VMware hypervisor (RPCI), over a virtual socket.

Owns packets and the socket. A call is a text such as `info-get guestinfo.x`; the reply begins with
"1 " or "0 ". The socket is made at the first call and again after any fault; nothing waits longer
than its time.
"""

from __future__ import annotations

import errno

from agent import bare_socket as socket
from agent.hints import Callable, List, Optional
from agent.tether.c_rpci import (
    DMFIELDTYPE_INT64,
    DMFIELDTYPE_STRING,
    FIELD,
    GUESTMSG_MAX_IN_SIZE,
    GUESTRPC_RPCI_VSOCK_LISTEN_PORT,
    GUESTRPCPKT_FIELD_PAYLOAD,
    GUESTRPCPKT_FIELD_TYPE,
    GUESTRPCPKT_TYPE_DATA,
    INT64,
    LENGTH,
    PRIVILEGED_PORT_MAX,
    REPLY_BYTES,
    STRING,
    VMCI_HYPERVISOR_CONTEXT_ID,
)

CALL_SECONDS = 2.0
_PORT_TRIES = 8


class RpciError(Exception):
    """The hypervisor cannot be reached, or does not speak RPCI."""


class RefusalError(RpciError):
    """The hypervisor's answer is no; the text is why."""


class Rpci:
    """A channel to the hypervisor. `connect` returns a connected socket, or raises OSError."""

    def __init__(self, connect: Optional[Callable[[], socket.socket]] = None) -> None:
        self._connect = connect or connect_hypervisor
        self._socket: Optional[socket.socket] = None

    def call(self, request: bytes) -> bytes:
        """Return the reply behind its "1 ". Raises RefusalError on "0 ", RpciError."""
        packet = encode_packet(request)
        if len(packet) > GUESTMSG_MAX_IN_SIZE:
            raise RpciError("a request of {} bytes is too long".format(len(request)))
        try:
            # A connection that was idle may have been closed at the other end, as by a vMotion.
            try:
                reply = self._exchange(packet)
            except ConnectionError:
                self.close()
                reply = self._exchange(packet)
        except (OSError, ValueError) as error:
            self.close()
            raise RpciError("the hypervisor does not answer: {}".format(error)) from error
        if reply[:2] == b"1 " or reply == b"1":
            return reply[2:]
        raise RefusalError(reply[2:].decode("utf-8", "replace"))

    def close(self) -> None:
        """Close the socket; the next call makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, packet: bytes) -> bytes:
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(CALL_SECONDS)
        self._socket.sendall(packet)
        (length,) = LENGTH.unpack(self._receive(LENGTH.size))
        if length > REPLY_BYTES:
            raise ValueError("a reply of {} bytes".format(length))
        return decode_packet(self._receive(length))

    def _receive(self, count: int) -> bytes:
        assert self._socket is not None
        pieces: List[bytes] = []
        while count:
            piece = self._socket.recv(min(count, 65536))
            if not piece:
                raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


def encode_packet(payload: bytes) -> bytes:
    """Return a data packet."""
    fields = [
        FIELD.pack(DMFIELDTYPE_INT64, GUESTRPCPKT_FIELD_TYPE),
        INT64.pack(GUESTRPCPKT_TYPE_DATA, 0),
        FIELD.pack(DMFIELDTYPE_STRING, GUESTRPCPKT_FIELD_PAYLOAD),
        STRING.pack(len(payload)),
        payload,
    ]
    content = b"".join(fields)
    return LENGTH.pack(len(content)) + content


def decode_packet(content: bytes) -> bytes:
    """Return the payload in what follows a packet's length. Raises ValueError when there is none.

    Fields come in any order; those that we do not know are passed over.
    """
    payload: Optional[bytes] = None
    at = 0
    while at < len(content):
        if len(content) - at < FIELD.size + STRING.size:
            raise ValueError("a packet that ends in a field")
        kind, number = FIELD.unpack_from(content, at)
        at += FIELD.size
        if kind == DMFIELDTYPE_INT64:
            at += INT64.size
        elif kind == DMFIELDTYPE_STRING:
            (size,) = STRING.unpack_from(content, at)
            at += STRING.size
            if number == GUESTRPCPKT_FIELD_PAYLOAD:
                payload = content[at : at + size]
            at += size
        else:
            raise ValueError("a field of type {}".format(kind))
    if at != len(content) or payload is None:
        raise ValueError("a packet without a whole payload")
    return payload


def connect_hypervisor(service: int = GUESTRPC_RPCI_VSOCK_LISTEN_PORT) -> socket.socket:
    """Return a socket to a service of the hypervisor, from a privileged port if we may have one.

    Raises OSError: ENODEV where there is no VMCI device, EAFNOSUPPORT without its drivers.
    """
    address = (VMCI_HYPERVISOR_CONTEXT_ID, service)
    port = PRIVILEGED_PORT_MAX
    while True:
        connection = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            connection.settimeout(CALL_SECONDS)
            _bind_below(connection, port)
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            # The port's last connection may not be forgotten at the other end yet.
            if error.errno != errno.ECONNRESET or port <= PRIVILEGED_PORT_MAX - _PORT_TRIES:
                raise
            port -= 1


def _bind_below(connection: socket.socket, port: int) -> None:
    while True:
        try:
            connection.bind((socket.VMADDR_CID_ANY, port))
            return
        except PermissionError:
            return  # unprivileged then
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port <= PRIVILEGED_PORT_MAX - _PORT_TRIES:
                raise
            port -= 1
