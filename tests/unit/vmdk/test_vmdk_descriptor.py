"""The descriptor: the exact text that we write, and which texts are taken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from converter.errors import IntegrityError, UsageError
from converter.vmdk.descriptor import (
    Descriptor,
    Extent,
    Geometry,
    ParentRef,
    check_content_id,
    disk_data_base,
    geometry,
    parse,
    render,
)

GIB = 1 << 30
CHILD = Descriptor(
    cid=0x0000ABCD,
    create_type="monolithicSparse",
    extents=(Extent("RW", 16 * GIB // 512, "SPARSE", "child.vmdk"),),
    parent=ParentRef(0x12345678, "base.vmdk"),
    ddb=disk_data_base(16 * GIB, "00112233445566778899aabb0000abcd"),
)
CHILD_TEXT = b"""\
# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=0000abcd
parentCID=12345678
createType="monolithicSparse"
parentFileNameHint="base.vmdk"

# Extent description
RW 33554432 SPARSE "child.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "2089"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "00112233445566778899aabb0000abcd"
ddb.virtualHWVersion = "4"
"""


def test_render_gives_this_text() -> None:
    assert render(CHILD) == CHILD_TEXT


def test_render_of_a_base_has_no_hint() -> None:
    text = render(replace(CHILD, parent=None))
    assert b"\nparentCID=ffffffff\n" in text
    assert b"parentFileNameHint" not in text


def test_parse_gives_back_what_was_rendered() -> None:
    assert parse(CHILD_TEXT, "x") == CHILD
    assert parse(CHILD_TEXT + b"\0" * 100 + b"old text", "x") == CHILD


def test_qemu_finds_the_cid_first_and_the_parent_right_behind() -> None:
    # It searches for these strings, and rewrites the CID by joining what follows "parentCID".
    assert CHILD_TEXT.index(b"CID=0000abcd\n") + len(b"CID=0000abcd\n") == CHILD_TEXT.index(
        b"parentCID="
    )
    assert CHILD_TEXT.index(b"CID") == CHILD_TEXT.index(b"\nCID=") + 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "..\\b",
        'a"b',
        "a\nRW 1 FLAT",
        "a\0",
        "nbd:x",
        "a\x7f",
        "x" * 256,
        "é" * 128,
        "\udcff",
    ],
    ids=repr,
)
def test_file_names_that_could_be_something_else_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name"):
        render(replace(CHILD, parent=ParentRef(1, name)))
    with pytest.raises(UsageError, match="cannot name"):
        render(replace(CHILD, extents=(Extent("RW", 8, "SPARSE", name),)))


def test_plain_file_names_pass() -> None:
    for name in ("a" * 255, "with blank.vmdk", "é" * 127, "-x", "..."):
        again = parse(render(replace(CHILD, parent=ParentRef(1, name))), "x")
        assert again.parent == ParentRef(1, name)


def test_a_text_of_other_writers_is_taken() -> None:
    text = (
        b"# Disk DescriptorFile\r\nversion=1\r\nCID=abc\r\nparentCID=ffffffff\r\n"
        b'isNativeSnapshot="no"\r\ncreatetype = "twoGbMaxExtentSparse"\r\n\r\n'
        b'RW 4192256 SPARSE "a b-s001.vmdk"\r\nrw 63 flat "f.vmdk" 128\r\nRDONLY 8 ZERO\r\n'
        b'#DDB\r\n\tddb.toolsVersion = "2147483647"\r\n'
    )
    assert parse(text, "x") == Descriptor(
        cid=0xABC,
        create_type="twoGbMaxExtentSparse",
        extents=(
            Extent("RW", 4192256, "SPARSE", "a b-s001.vmdk"),
            Extent("RW", 63, "FLAT", "f.vmdk", 128),
            Extent("RDONLY", 8, "ZERO"),
        ),
        ddb=(("toolsVersion", "2147483647"),),
    )


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (b"version=1", b"version=7", "of version 7"),
        (b"version=1\n", b"", "no version"),
        (b"CID=0000abcd", b"CID=0000abcde", "content ID"),
        (b"CID=0000abcd", b"CID=-1", "content ID"),
        (b"CID=0000abcd\n", b"", "no cid"),
        (b"CID=0000abcd\n", b"CID=0000abcd\nCID=0000abcd\n", "cid twice"),
        (b"parentCID=12345678", b"parentCID=ffffffff", "no parentCID"),
        (b'parentFileNameHint="base.vmdk"\n', b"", "no parentFileNameHint"),
        (b'parentFileNameHint="base.vmdk"', b'parentFileNameHint="a"b"', "stray quote"),
        (b"createType", b"created", "no createtype"),
        (b'RW 33554432 SPARSE "child.vmdk"', b"", "no extent"),
        (b"RW 33554432", b"RW 99999999999999999999", "the line"),
        (b"RW 33554432", b"RW -1", "the line"),
        (b"encoding", b"\xff", "not UTF-8"),
        (b"#DDB", b"\n" * 1000, "lines"),
        (b"#DDB", b"#" + b"x" * 70000, "bytes"),
        (b"ddb.geometry.heads", b"ddb.geometry.sectors", "twice"),
        (b"ddb.adapterType", b"?", "the line"),
    ],
)
def test_damaged_texts_are_refused(old: bytes, new: bytes, fault: str) -> None:
    assert old in CHILD_TEXT
    with pytest.raises(IntegrityError, match=f"(?s)x.vmdk .*{fault}"):
        parse(CHILD_TEXT.replace(old, new, 1), "x.vmdk")


def test_geometry_follows_the_capacity_up_to_its_limit() -> None:
    assert geometry(512) == Geometry(1, 255, 63)
    assert geometry(255 * 63 * 512) == Geometry(1, 255, 63)
    assert geometry(255 * 63 * 512 + 512) == Geometry(2, 255, 63)
    assert geometry(2 << 40) == Geometry(65535, 255, 63)


@pytest.mark.parametrize("cid", [-1, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32])
def test_reserved_content_ids_are_refused(cid: int) -> None:
    with pytest.raises(ValueError, match="CID"):
        check_content_id(cid)


def test_a_long_content_id_ends_with_the_cid() -> None:
    check_content_id(0xABC, "0" * 29 + "abc")
    for wrong in ("0" * 29 + "abd", "abc", "0" * 29 + "ABC", "g" * 24 + "00000abc"):
        with pytest.raises(ValueError, match="long content ID"):
            check_content_id(0xABC, wrong)
