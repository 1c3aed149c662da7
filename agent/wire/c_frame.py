"""The frame on the line, as docs/protocol.md specifies it: layouts, numbers, limits.

Owns every constant of the protocol and nothing else. All integers are big-endian. A unit test
compares the tables of docs/protocol.md with this module, name by name and byte by byte.
"""

from __future__ import annotations

import struct

PROTOCOL_VERSION = 2  # the newest that this code speaks
OLDEST_VERSION = 2

# --- the frame: header, payload, tag -------------------------------------------------------------

# 0xF5 occurs in no UTF-8 text, so the console text of a booting kernel never looks like a frame.
MAGIC = b"\xf5TLP"

HEADER_FIELDS = (
    ("magic", "4s"),
    ("type", "B"),
    ("flags", "B"),
    ("stream", "H"),
    ("length", "I"),  # bytes of payload
    ("number", "Q"),  # sequenced: sequence; ACK: the next sequence expected; else 0
    ("transmission", "Q"),  # sequenced, PROBE: number of this transmission; ACK: highest one seen
    ("crc", "I"),  # crc32 of all before it: trusted before `length` is believed
)
HEADER = struct.Struct(">" + "".join(code for _, code in HEADER_FIELDS))
HEADER_SIZE = HEADER.size
HEADER_BODY = struct.Struct(">" + "".join(code for _, code in HEADER_FIELDS[:-1]))
HEADER_CRC = struct.Struct(">" + HEADER_FIELDS[-1][1])
TAG_SIZE = 16  # blake2b keyed, over header and payload
TAG_PERSON = b"saltflat frame 1"  # blake2b's personalisation, the same in every version
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
    GAP = 18
    OPEN = 19
    CLOSED = 20
    POSITION = 21


class Flag:
    """Flags of a sequenced frame."""

    FIN = 1  # DATA: the sender will send nothing more on this stream; POSITION: it has arrived
    MORE = 2  # DATA of the control stream: the message goes on in the next frame
    COMPRESSED = 4  # DATA: the payload is a raw deflate stream
    PIECE = 8  # any: part of a frame that was lost when it was sent whole


# --- payloads ------------------------------------------------------------------------------------

# What comes before `incarnation` stands at the same place in every version, and more may follow:
# so the ends of two versions can tell each other why they do not go together.
GREETING_FIELDS = (
    ("version", "H"),  # HELLO: the newest that the host speaks; HELLO_ACK: the one that is spoken
    ("role", "B"),
    ("oldest", "B"),  # the oldest version that the sender speaks
    ("max_payload", "I"),  # longest payload that the sender of this greeting takes
    ("window", "I"),  # bytes that it holds behind a gap
    ("epoch", "I"),  # counts the connections of one host process
    ("received", "Q"),  # next sequence that it expects: what comes before is acknowledged
    ("session", "16s"),
    ("nonce", "16s"),  # of the sender, new in every epoch
    ("peer_nonce", "16s"),  # HELLO: zeros; HELLO_ACK: the nonce of the HELLO
    ("incarnation", "I"),  # counts the host processes of one session
    ("joined", "I"),  # 1: the sender has had this session established before
    ("features", "Q"),  # HELLO: what the host can do; HELLO_ACK: what both do
)
GREETING = struct.Struct(">" + "".join(code for _, code in GREETING_FIELDS))
NONCE_OFFSET = 40

REFUSAL_FIELDS = (
    ("version", "H"),  # newest spoken by the side that refuses
    ("reason", "H"),
    ("peer_nonce", "16s"),  # of the HELLO that is refused
)
REFUSAL = struct.Struct(">" + "".join(code for _, code in REFUSAL_FIELDS))

CREDIT_FIELDS = (("limit", "Q"),)  # bytes that may be carried on this stream, since its beginning
CREDIT = struct.Struct(">" + "".join(code for _, code in CREDIT_FIELDS))

GAP_FIELDS = (
    ("offset", "Q"),  # of the first byte that is missing
    ("count", "Q"),  # of bytes that are missing
)
GAP = struct.Struct(">" + "".join(code for _, code in GAP_FIELDS))

POSITION_FIELDS = (
    ("incarnation", "I"),  # the host process that this is for
    ("received", "Q"),  # bytes carried so far; CONTROL: whole messages
    ("limit", "Q"),  # as in CREDIT
)
POSITION = struct.Struct(">" + "".join(code for _, code in POSITION_FIELDS))

PIECE_FIELDS = (
    ("offset", "I"),  # of this piece in the payload, a multiple of MIN_PAYLOAD
    ("total", "I"),  # bytes of the payload
)
PIECE = struct.Struct(">" + "".join(code for _, code in PIECE_FIELDS))

NONCE_SIZE = 16
SESSION_SIZE = 16
KEY_SIZE = 32


class Role:
    """Which end of the line this is; the value is the role byte of a greeting.

    No enumeration: to load the module costs the guest 4 ms of each start.
    """

    HOST: Role
    GUEST: Role

    def __init__(self, name: str, value: int) -> None:
        self.name = name
        self.value = value


Role.HOST = Role("HOST", 1)
Role.GUEST = Role("GUEST", 2)


class Reason:
    """Why a HELLO was refused."""

    VERSION = 1  # no version is spoken by both
    SESSION = 2  # another session is already under way
    UNKNOWN = 3  # the guest has never been in the session that the host wants to go on with
    FORGOTTEN = 4  # the host expects what it has acknowledged before


class Feature:
    """Bits of `features`."""

    COMPRESSION = 1  # takes DATA frames with the flag COMPRESSED


FEATURES = Feature.COMPRESSION

# --- streams -------------------------------------------------------------------------------------

# Process n has the streams 4n + STDIN, 4n + STDOUT and 4n + STDERR. Process 0 is always there.
CONTROL, STDIN, STDOUT, STDERR = 0, 1, 2, 3
STREAMS_PER_PROCESS = 4
SENDS = {Role.HOST: (STDIN,), Role.GUEST: (STDOUT, STDERR)}  # who writes which data stream
LAST_PROCESS = 65536 // STREAMS_PER_PROCESS - 1
MAX_PROCESSES = 256  # at once, beside process 0

# --- limits and times ----------------------------------------------------------------------------

MIN_PAYLOAD = 64
MAX_PAYLOAD = 1 << 20
FIRST_CREDIT = 16384  # of a stream whose end counts what all bring together
FIRST_PAYLOAD = 4096  # until the line has shown what it carries
UNSEQUENCED_PAYLOAD = 128  # longest payload of an unsequenced frame
CONTROL_LIMIT = 16384  # bytes of JSON in one control message
CONTROL_QUEUE = 1 << 20  # bytes of JSON that may wait to be sent
INFLATION = 4  # a compressed payload becomes at most this many times the longest payload
MAX_COUNT = 1 << 62  # of bytes of a stream, and of messages

# Of the frames between the last acknowledged and the newest, data may use the first part and
# control and credit all of it: that is how data never blocks control.
DATA_FRAMES = 128
FLIGHT_FRAMES = 256
SELECTIVE_SIZE = FLIGHT_FRAMES // 8  # longest bitmap in an ACK

# Transmission numbers of a host process lie above those of the one before.
INCARNATION_SHIFT = 40
LAST_INCARNATION = (1 << (64 - INCARNATION_SHIFT)) - 1

HELLO_SECONDS = 1.0  # between two greetings that nobody has answered
FIRST_PROBE_SECONDS = 0.2  # until a round trip has been measured
MIN_PROBE_SECONDS = 0.05
MAX_PROBE_SECONDS = 2.0
