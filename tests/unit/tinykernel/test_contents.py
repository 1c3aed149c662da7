"""contents.json: what is written is read back, and every file is there for one thing."""

from __future__ import annotations

import hashlib
import json

import pytest

from tinykernel.contents import (
    Content,
    Part,
    PartSize,
    breakdown,
    decode_contents,
    describe,
    encode_contents,
    part_of,
)
from tinykernel.cpio import directory, regular, symlink

CONTENTS = [
    describe(regular("usr/bin/python3.11", b"elf", 0o755), "python3.11-minimal"),
    describe(directory("tmp", 0o1777)),
    describe(symlink("bin", "usr/bin")),
    describe(regular("init", b"#!"), "saltflat"),
    describe(regular("usr/lib/saltflat/agent/wire/a.pyc", b"code")),
]


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("usr/bin/python3.11", Part.INTERPRETER),
        ("usr/bin/python3-config", Part.OTHER),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", Part.LIBRARIES),
        ("usr/lib64/ld-linux-x86-64.so.2", Part.LIBRARIES),
        ("usr/lib/python3.13/json/__init__.pyc", Part.STANDARD_LIBRARY),
        ("usr/lib/python3.11/lib-dynload/_ctypes.cpython-311-x86_64-linux-gnu.so",
         Part.STANDARD_LIBRARY),
        ("usr/lib/saltflat/agent/tether/world.pyc", Part.AGENT),
        ("init", Part.AGENT),
        ("initial", Part.OTHER),
        ("usr/lib/saltflat/dhcp/busybox.z", Part.NETWORK),
        ("usr/lib/modules/ext4.ko", Part.MODULES),
        ("usr/lib/modules/order.json", Part.MODULES),
        ("etc/passwd", Part.OTHER),
    ],
)  # fmt: skip
def test_every_file_is_there_for_one_thing(path: str, part: Part) -> None:
    assert part_of(path) is part


def test_a_written_list_is_read_back_sorted() -> None:
    data = encode_contents(CONTENTS)
    assert decode_contents(data) == sorted(CONTENTS, key=lambda content: content.path)
    assert data == encode_contents(CONTENTS[::-1])
    rows = {row["path"]: row for row in json.loads(data)["contents"]}
    assert rows["tmp"] == {"path": "tmp", "mode": "041777"}
    assert rows["bin"] == {"path": "bin", "mode": "120777", "target": "usr/bin"}
    assert rows["usr/bin/python3.11"] == {
        "path": "usr/bin/python3.11",
        "mode": "100755",
        "size_bytes": 3,
        "sha256": hashlib.sha256(b"elf").hexdigest(),
        "origin": "python3.11-minimal",
    }


def test_sizes_are_told_by_part() -> None:
    assert breakdown(CONTENTS) == [
        PartSize(Part.INTERPRETER, 1, 3),
        PartSize(Part.AGENT, 2, 6),
    ]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": 2, "contents": []},
        {"schema": 1, "contents": 3},
        {"schema": 1, "contents": [{"path": "a"}]},
        {"schema": 1, "contents": [{"path": "a", "mode": 3}]},
        {"schema": 1, "contents": [{"path": "a", "mode": "9"}]},
        {"schema": 1, "contents": [{"path": "a", "mode": "100644", "sha256": "../x"}]},
        {"schema": 1, "contents": [{"path": "a", "mode": "100644", "sha256": 5}]},
        [],
    ],
)
def test_what_is_no_list_is_refused(document: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_contents(json.dumps(document).encode())


def test_content_is_a_value() -> None:
    assert describe(regular("a", b"")) == Content("a", 0o100644, 0, hashlib.sha256().hexdigest())
