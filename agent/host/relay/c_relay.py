"""Layouts and limits of the relay: its log, its client protocol. docs/relay.md specifies them.

Owns the constants and nothing else; a unit test compares the document's tables with this module.
All integers are big-endian.
"""

from __future__ import annotations

import struct

# --- the log's records ---------------------------------------------------------------------------

RECORD_MAGIC = b"SFR1"
RECORD_FIELDS = (
    ("magic", "4s"),
    ("kind", "B"),
    ("zero", "B"),
    ("stream", "H"),
    ("time", "Q"),  # nanoseconds since 1970, by the host's clock, when it arrived
    ("length", "I"),  # of the payload
    ("crc", "I"),  # crc32 of all before it, and of the payload
)
RECORD = struct.Struct(">" + "".join(code for _, code in RECORD_FIELDS))
RECORD_CRC = struct.Struct(">I")
RECORD_BODY_SIZE = RECORD.size - RECORD_CRC.size


class RecordKind:
    """What a record of the log or of the spool tells."""

    OUTPUT = 1
    GAP = 2
    EXIT = 3
    SESSION = 4
    STDIN = 16
    STDIN_END = 17
    WRITER = 18


GAP_FIELDS = (("offset", "Q"), ("count", "Q"))
GAP = struct.Struct(">" + "".join(code for _, code in GAP_FIELDS))

# Before the bytes of stdin in the spool: whose they are, and where they stand.
SPOOL_FIELDS = (
    ("writer", "16s"),  # chosen by the client; the same when it comes back
    ("written", "Q"),  # bytes of that client up to and with these
    ("offset", "Q"),  # of these in the stream
)
SPOOL = struct.Struct(">" + "".join(code for _, code in SPOOL_FIELDS))
WRITER_SIZE = 16

RECORD_PAYLOAD = 32768  # longest payload of an output record
RECORD_LIMIT = 65536  # of any record: what a reader believes
SEGMENT_BYTES = 10_000_000
LOG_BYTES = 100_000_000
SEGMENT_DIGITS = 20  # of the position of a segment's first byte, which is its name
READ_BYTES = 262144

SPOOL_BYTES = 16 << 20  # of the spool before it is written anew: much more than is kept then
SPOOL_WRITERS = 256  # clients whose count of bytes is remembered
JOURNAL_BYTES = 1 << 20
UNCONFIRMED_MESSAGES = 4096  # to the guest, that a relay started again may say once more

# --- the client protocol -------------------------------------------------------------------------

CLIENT_VERSION = 1

FRAME_FIELDS = (("length", "I"), ("kind", "B"))  # `length` of the payload
FRAME = struct.Struct(">" + "".join(code for _, code in FRAME_FIELDS))
FRAME_LIMIT = 65536  # longest payload, both ways


class FrameKind:
    """What a frame between client and relay is."""

    HELLO = 1
    REQUEST = 2
    RESPONSE = 3
    EVENT = 4
    STDIN = 5
    STDIN_END = 6
    TAKEN = 7
    STDOUT = 8
    STDERR = 9


OUTPUT_FIELDS = (
    ("process", "H"),
    ("time", "Q"),  # as in the log
    ("position", "Q"),  # in the log, behind this record; 0 when it is not in the log
)
OUTPUT = struct.Struct(">" + "".join(code for _, code in OUTPUT_FIELDS))

STDIN_FIELDS = (("offset", "Q"),)  # of the first byte, counted from this client's first
STDIN_HEADER = struct.Struct(">" + "".join(code for _, code in STDIN_FIELDS))

TAKEN_FIELDS = (("count", "Q"),)  # bytes of this client that need not be sent again
TAKEN = struct.Struct(">" + "".join(code for _, code in TAKEN_FIELDS))

STDIN_WINDOW = 131072  # bytes that a client may send beyond what was taken
OUT_BYTES = 262144  # that wait for a client's socket before no more is fetched for it
MAX_CLIENTS = 256
HELLO_SECONDS = 10.0  # for a client to say who it is and what it wants
LINGER_SECONDS = 5.0  # for a client to close, after the last frame
WAITING_REQUESTS = 64  # that wait for the guest of a relay that was started again
