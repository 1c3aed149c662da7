"""docs/protocol.md is the specification: its tables and c_frame.py say the same."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from agent.wire import c_frame, frames, greeting

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")


def tables(heading: str) -> list[list[dict[str, str]]]:
    """Return the tables below a heading, up to the next one, as rows by column name."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", DOCUMENT, re.M | re.S)
    assert section, heading
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", section[1], re.M):
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def names(rows: list[dict[str, str]], value: str) -> dict[str, int]:
    return {row["name"].strip("`"): int(row[value]) for row in rows}


def constants(holder: type) -> dict[str, int]:
    return {name: value for name, value in vars(holder).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("Header", c_frame.HEADER_FIELDS),
        ("Greeting", c_frame.GREETING_FIELDS),
        ("Refusal", c_frame.REFUSAL_FIELDS),
        ("Credit", c_frame.CREDIT_FIELDS),
        ("Gap", c_frame.GAP_FIELDS),
        ("Position", c_frame.POSITION_FIELDS),
        ("Piece", c_frame.PIECE_FIELDS),
    ],
)
def test_byte_tables(heading, fields):
    offset = 0
    expected = []
    for name, code in fields:
        size = struct.calcsize(">" + code)
        expected.append((offset, size, name))
        offset += size
    (table,) = tables(heading)
    stated = [(int(row["offset"]), int(row["size"]), row["field"].strip("`")) for row in table]
    assert stated == expected


def test_struct_sizes_are_those_of_the_tables():
    assert c_frame.HEADER_SIZE == 32
    for packed, fields in (
        (c_frame.GREETING, c_frame.GREETING_FIELDS),
        (c_frame.REFUSAL, c_frame.REFUSAL_FIELDS),
        (c_frame.CREDIT, c_frame.CREDIT_FIELDS),
        (c_frame.GAP, c_frame.GAP_FIELDS),
        (c_frame.POSITION, c_frame.POSITION_FIELDS),
        (c_frame.PIECE, c_frame.PIECE_FIELDS),
    ):
        assert packed.size == sum(struct.calcsize(">" + code) for _, code in fields)
    assert greeting.Greeting._fields == tuple(name for name, _ in c_frame.GREETING_FIELDS)
    before = [name for name, _ in c_frame.GREETING_FIELDS].index("nonce")
    fields = "".join(code for _, code in c_frame.GREETING_FIELDS[:before])
    assert struct.calcsize(">" + fields) == c_frame.NONCE_OFFSET
    assert c_frame.GREETING.size <= c_frame.UNSEQUENCED_PAYLOAD


def test_frame_types_and_their_keys():
    (table,) = tables("Frame types")
    assert names(table, "type") == constants(c_frame.FrameType)
    greetings = {int(row["type"]) for row in table if row["key"] == "greeting"}
    assert greetings == {
        c_frame.FrameType.HELLO,
        c_frame.FrameType.HELLO_ACK,
        c_frame.FrameType.REFUSE,
    }


@pytest.mark.parametrize(
    ("heading", "column", "holder"),
    [
        ("Flags", "value", c_frame.Flag),
        ("Features", "bit", c_frame.Feature),
        ("Reasons", "reason", c_frame.Reason),
    ],
)
def test_numbers_with_names(heading, column, holder):
    (table,) = tables(heading)
    assert names(table, column) == constants(holder)


def test_streams_and_who_writes_them():
    table, _states = tables("Streams")
    stated = names(table, "stream")
    assert stated == {name: getattr(c_frame, name) for name in stated}
    for role in c_frame.SENDS:
        writer = role.name.lower()
        assert c_frame.SENDS[role] == tuple(
            int(row["stream"]) for row in table if row["written by"] == writer
        )


@pytest.mark.parametrize(
    "sentence",
    [
        f"`{c_frame.MAGIC.hex(' ')}`",
        f"`{c_frame.TAG_PERSON.decode()}`",
        f"{c_frame.TAG_SIZE} bytes long",
        f"of this protocol: {c_frame.PROTOCOL_VERSION};",
        f"`role` | {c_frame.Role.HOST.value} host, {c_frame.Role.GUEST.value} guest",
        f"takes, {c_frame.MIN_PAYLOAD} at least",
        f"speaks: {c_frame.OLDEST_VERSION};",
        f"plus {c_frame.PIECE.size} bytes",
        f"incarnation * 2^{c_frame.INCARNATION_SHIFT} + 1",
        f"0 < n < {c_frame.LAST_PROCESS + 1}, and at most {c_frame.MAX_PROCESSES} of them",
        f"to at most {c_frame.INFLATION} times",
        f"piece in the payload, a multiple of {c_frame.MIN_PAYLOAD}",
        f"down to {c_frame.MIN_PAYLOAD} bytes",
        f"at most {c_frame.FIRST_PAYLOAD} bytes at first",
        f"{c_frame.GREETING.size + c_frame.FRAME_OVERHEAD} bytes on the line",
        f"carry at most {c_frame.UNSEQUENCED_PAYLOAD} bytes",
        f"{c_frame.KEY_SIZE}-byte key",
        f"at most {c_frame.SELECTIVE_SIZE} bytes",
        f"{c_frame.MIN_PROBE_SECONDS:g} to {c_frame.MAX_PROBE_SECONDS:g} s",
        f"{c_frame.FIRST_PROBE_SECONDS:g} s before the first measurement",
        f"and {c_frame.FLIGHT_FRAMES} frames, of which data uses {c_frame.DATA_FRAMES}",
        f"JSON object of at most {c_frame.CONTROL_LIMIT} bytes",
        f"(1-p)^(n+{c_frame.FRAME_OVERHEAD})",
    ],
)
def test_numbers_in_the_text(sentence):
    assert sentence in re.sub(r"\s+", " ", DOCUMENT)


def test_the_keys_table_names_the_labels():
    stated = {
        tuple(re.findall(r"`([^`]*)`", row["key"])) for table in tables("Keys") for row in table
    }
    assert stated == {
        (f"{phase} {role}",) for phase in ("greeting", "session") for role in ("host", "guest")
    }


def test_a_frame_by_hand():
    """One frame put together from this page alone, not from the code's tables."""
    import hashlib
    import zlib

    key = bytes(range(32))
    body = bytes.fromhex("f5544c50 10 01 0002 00000002") + (7).to_bytes(8, "big")
    body += (9).to_bytes(8, "big")
    header = body + zlib.crc32(body).to_bytes(4, "big")
    tag = hashlib.blake2b(
        header + b"hi", key=key, digest_size=16, person=b"saltflat frame 1"
    ).digest()
    frame = frames.Frame(c_frame.FrameType.DATA, c_frame.Flag.FIN, c_frame.STDOUT, 7, 9, b"hi")
    assert frames.Sealer(key).seal(frame) == header + b"hi" + tag


def test_a_session_key_by_hand():
    import hashlib
    import hmac

    hello, answer = bytes(88), bytes(range(88))
    size = b"\0\0\0\x58"
    text = b"saltflat wire\0session guest\0" + size + hello + size + answer
    expected = hmac.new(bytes(32), text, hashlib.sha256).digest()
    assert greeting.derive(bytes(32), b"session guest", hello, answer) == expected
