"""The record, the unit of log and spool: encode one, find the whole ones in a piece of a file.

Whatever a guest prints is payload, behind a length and a checksum: it cannot make a record.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from agent.host.relay.c_relay import (
    RECORD,
    RECORD_BODY_SIZE,
    RECORD_CRC,
    RECORD_LIMIT,
    RECORD_MAGIC,
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `end` is the offset behind it in whatever it was read from."""

    kind: int
    stream: int
    time_ns: int
    payload: bytes
    end: int


def encode_record(kind: int, stream: int, time_ns: int, payload: bytes) -> bytes:
    """Return a record's bytes. Raises ValueError on a payload longer than RECORD_LIMIT."""
    if len(payload) > RECORD_LIMIT:
        raise ValueError(f"a record with {len(payload)} bytes of payload")
    unchecked = RECORD.pack(RECORD_MAGIC, kind, 0, stream, time_ns, len(payload), 0)
    body = unchecked[:RECORD_BODY_SIZE]
    crc = zlib.crc32(payload, zlib.crc32(body))
    return b"".join((body, RECORD_CRC.pack(crc), payload))


class DamagedError(ValueError):
    """What should be a record is none; `offset` is where it begins."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"no record at offset {offset}")
        self.offset = offset


def decode_records(data: bytes, base: int = 0) -> Iterator[Record]:
    """Yield the whole records at the beginning of `data`, whose first byte has the offset `base`.

    Ends before a record whose end is missing. Raises DamagedError at the first that is none.
    """
    offset = 0
    while len(data) - offset >= RECORD.size:
        magic, kind, zero, stream, time_ns, length, crc = RECORD.unpack_from(data, offset)
        if magic != RECORD_MAGIC or zero or length > RECORD_LIMIT:
            raise DamagedError(base + offset)
        end = offset + RECORD.size + length
        if end > len(data):
            return
        payload = data[offset + RECORD.size : end]
        if crc != zlib.crc32(payload, zlib.crc32(data[offset : offset + RECORD_BODY_SIZE])):
            raise DamagedError(base + offset)
        yield Record(kind, stream, time_ns, payload, base + end)
        offset = end
