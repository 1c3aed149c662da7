"""Packets of guest RPC on a virtual socket: a DataMap of fields behind its length.

Owns encoding, decoding and cutting a stream into packets; does no I/O. `c_rpci` has the numbers.
"""

from __future__ import annotations

from agent.hints import Dict, Iterator, List, Optional
from agent.tether.c_rpci import (
    DMFIELDTYPE_INT64,
    DMFIELDTYPE_STRING,
    FIELD,
    GUESTRPCPKT_FIELD_PAYLOAD,
    GUESTRPCPKT_FIELD_TYPE,
    GUESTRPCPKT_TYPE_DATA,
    GUESTRPCPKT_TYPE_PING,
    INT64,
    LENGTH,
    REPLY_BYTES,
    STRING,
)


def encode_packet(payload: bytes) -> bytes:
    """Return a data packet. Without a payload it has no field for one, as open-vm-tools has it."""
    fields = _encode_number(GUESTRPCPKT_FIELD_TYPE, GUESTRPCPKT_TYPE_DATA)
    if payload:
        fields += FIELD.pack(DMFIELDTYPE_STRING, GUESTRPCPKT_FIELD_PAYLOAD)
        fields += STRING.pack(len(payload)) + payload
    return LENGTH.pack(len(fields)) + fields


def encode_ping() -> bytes:
    """Return the packet by which a guest says that it is alive."""
    fields = _encode_number(GUESTRPCPKT_FIELD_TYPE, GUESTRPCPKT_TYPE_PING)
    return LENGTH.pack(len(fields)) + fields


def decode_packet(content: bytes) -> bytes:
    """Return the payload in what follows a packet's length. Raises ValueError when there is none.

    Fields come in any order; those that we do not know are passed over.
    """
    payloads: Dict[int, bytes] = {}
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
            payloads[number] = content[at : at + size]
            at += size
        else:
            raise ValueError("a field of type {}".format(kind))
    payload = payloads.get(GUESTRPCPKT_FIELD_PAYLOAD)
    if at != len(content) or payload is None:
        raise ValueError("a packet without a whole payload")
    return payload


class Packets:
    """What has come of a stream: `take` pieces of any size, and get whole payloads."""

    def __init__(self) -> None:
        self._pieces: List[bytes] = []
        self._count = 0  # of bytes in them
        self._wanted = LENGTH.size

    def take(self, data: bytes) -> Iterator[bytes]:
        """Yield the payloads that `data` completes. Raises ValueError; then the stream is lost."""
        self._pieces.append(data)
        self._count += len(data)
        while self._count >= self._wanted:
            content = b"".join(self._pieces)
            end = self._end_of(content)
            if end is None:
                self._pieces = [content]
                return
            payload = decode_packet(content[LENGTH.size : end])
            self._pieces = [content[end:]]
            self._count -= end
            self._wanted = LENGTH.size
            yield payload

    def _end_of(self, content: bytes) -> Optional[int]:
        """Return where the first packet ends, None when it is not there whole."""
        (length,) = LENGTH.unpack_from(content)
        if length > REPLY_BYTES:
            raise ValueError("a packet of {} bytes".format(length))
        self._wanted = LENGTH.size + length
        return self._wanted if self._count >= self._wanted else None


def _encode_number(field: int, value: int) -> bytes:
    return FIELD.pack(DMFIELDTYPE_INT64, field) + INT64.pack(value & 0xFFFFFFFF, value >> 32)
