"""The frame on the line, as docs/protocol.md specifies it: layouts, numbers, limits.

Owns every constant of the protocol and nothing else. All integers are big-endian. A unit test
compares the tables of docs/protocol.md with this module, name by name and byte by byte.
"""

from __future__ import annotations

import enum
import struct

PROTOCOL_VERSION = 1

# --- the frame: header, payload, tag -------------------------------------------------------------

# 0xF5 occurs in no UTF-8 text, so the console text of a booting kernel never looks like a frame.
MAGIC = b"\xf5TLP"

HEADER_FIELDS = (
    ("magic", "4s"),
    ("type", "B"),
    ("stream", "B"),
    ("flags", "H"),
    ("length", "I"),  # bytes of payload
    ("number", "Q"),  # sequenced: sequence; ACK: the next sequence expected; else 0
    ("transmission", "Q"),  # sequenced, PROBE: number of this transmission; ACK: highest one seen
)
HEADER_BODY = struct.Struct(">" + "".join(code for _, code in HEADER_FIELDS))
HEADER_CRC = struct.Struct(">I")  # crc32 of the body: trusted before `length` is believed
HEADER_SIZE = HEADER_BODY.size + HEADER_CRC.size
TAG_SIZE = 16  # blake2b keyed, over header and payload
TAG_PERSON = b"saltflat frame 1"  # blake2b's personalisation
FRAME_OVERHEAD = HEADER_SIZE + TAG_SIZE


class FrameType:
    """What a frame is; types below DATA are unsequenced and short.

    Plain integers: an enum's members cost a tenth of the time that a small frame takes.
    """

    HELLO = 1
    HELLO_ACK = 2
    READY = 3
    REFUSE = 4
    PROBE = 5
    ACK = 6
    DATA = 16
    CREDIT = 17


class Flag:
    """Flags of a DATA frame."""

    FIN = 1  # the sender will send nothing more on this stream
    MORE = 2  # control stream: the message goes on in the next frame


# --- payloads ------------------------------------------------------------------------------------

GREETING_FIELDS = (
    ("version", "H"),
    ("role", "B"),
    ("reserved", "B"),
    ("max_payload", "I"),  # longest payload that the sender of this greeting takes
    ("window", "I"),  # bytes it holds out of order, and each stream's initial credit
    ("epoch", "I"),  # counts the connections of one session
    ("received", "Q"),  # next sequence that it expects: what comes before is acknowledged
    ("session", "16s"),
    ("nonce", "16s"),  # of the sender, new in every epoch
    ("peer_nonce", "16s"),  # HELLO: zeros; HELLO_ACK: the nonce of the HELLO
)
GREETING = struct.Struct(">" + "".join(code for _, code in GREETING_FIELDS))

REFUSAL_FIELDS = (
    ("version", "H"),  # spoken by the side that refuses
    ("reason", "H"),
    ("peer_nonce", "16s"),  # of the HELLO that is refused
)
REFUSAL = struct.Struct(">" + "".join(code for _, code in REFUSAL_FIELDS))

CREDIT_FIELDS = (("limit", "Q"),)  # bytes that may be sent on this stream, since its beginning
CREDIT = struct.Struct(">" + "".join(code for _, code in CREDIT_FIELDS))

NONCE_SIZE = 16
SESSION_SIZE = 16
KEY_SIZE = 32


class Role(enum.Enum):
    """Which end of the line this is; the value is the role byte of a greeting."""

    HOST = 1
    GUEST = 2


class Reason:
    """Why a HELLO was refused."""

    VERSION = 1  # the protocol version is not ours
    SESSION = 2  # another session is already under way


# --- streams -------------------------------------------------------------------------------------

CONTROL, STDIN, STDOUT, STDERR = 0, 1, 2, 3
SENDS = {Role.HOST: (STDIN,), Role.GUEST: (STDOUT, STDERR)}  # who writes which data stream

# --- limits and times ----------------------------------------------------------------------------

MIN_PAYLOAD = 64
MAX_PAYLOAD = 1 << 20
UNSEQUENCED_PAYLOAD = 128  # longest payload of an unsequenced frame
CONTROL_LIMIT = 16384  # bytes of JSON in one control message

# Of the frames between the last acknowledged and the newest, data may use the first part and
# control and credit all of it: that is how data never blocks control.
DATA_FRAMES = 128
FLIGHT_FRAMES = 256
SELECTIVE_SIZE = FLIGHT_FRAMES // 8  # longest bitmap in an ACK

HELLO_SECONDS = 1.0  # between two greetings that nobody has answered
FIRST_PROBE_SECONDS = 0.2  # until a round trip has been measured
MIN_PROBE_SECONDS = 0.05
MAX_PROBE_SECONDS = 2.0
