"""Sections behind those of an executable that the test makes by hand. Real stubs are booted."""

from __future__ import annotations

import pytest

from converter.errors import IntegrityError
from tinykernel.media.c_pe import (
    COFF_HEADER,
    E_LFANEW,
    SECTION_HEADER,
    SIZE_OF_IMAGE_OFFSET,
    U16,
    U32,
    CoffHeader,
    SectionHeader,
)
from tinykernel.media.uki import add_sections

ALIGNMENT, FILE_ALIGNMENT, HEADERS_END = 4096, 512, 1024
_COFF = 0x84
_OPTIONAL = _COFF + COFF_HEADER.size
_OPTIONAL_SIZE = 240
_TABLE = _OPTIONAL + _OPTIONAL_SIZE
TEXT = b"code".ljust(FILE_ALIGNMENT, b"\xcc")


def executable(*, machine: int = 0x8664, headers_end: int = HEADERS_END) -> bytes:
    """Return a PE32+ file with one section, symbols behind it, and a checksum."""
    head = bytearray(HEADERS_END)
    head[:2] = b"MZ"
    U32.pack_into(head, E_LFANEW, 0x80)
    head[0x80:0x84] = b"PE\0\0"
    COFF_HEADER.pack_into(head, _COFF, machine, 1, 0, 1536, 3, _OPTIONAL_SIZE, 0x22)
    U16.pack_into(head, _OPTIONAL, 0x20B)
    for offset, value in ((32, ALIGNMENT), (36, FILE_ALIGNMENT), (60, headers_end), (64, 99)):
        U32.pack_into(head, _OPTIONAL + offset, value)
    row = SectionHeader(b".text", 300, ALIGNMENT, FILE_ALIGNMENT, HEADERS_END, 0, 0, 0, 0, 0)
    SECTION_HEADER.pack_into(head, _TABLE, *row)
    return bytes(head) + TEXT + b"symbols"


def sections_of(data: bytes) -> list[SectionHeader]:
    coff = CoffHeader._make(COFF_HEADER.unpack_from(data, _COFF))
    assert (coff.PointerToSymbolTable, coff.NumberOfSymbols) == (0, 0)
    rows = range(_TABLE, _TABLE + 40 * coff.NumberOfSections, 40)
    return [SectionHeader._make(SECTION_HEADER.unpack_from(data, row)) for row in rows]


def test_sections_follow_in_file_and_memory() -> None:
    contents = {".cmdline": b"quiet", ".initrd": b"i" * 5000, ".linux": b"k" * 513}
    made = add_sections(executable(), contents)
    text, *added = sections_of(made)
    assert made[text.PointerToRawData :][:FILE_ALIGNMENT] == TEXT
    assert b"symbols" not in made
    end_in_memory = text.VirtualAddress + text.VirtualSize
    end_in_file = text.PointerToRawData + text.SizeOfRawData
    for row, (name, content) in zip(added, contents.items(), strict=True):
        assert row.Name.rstrip(b"\0").decode() == name
        assert made[row.PointerToRawData :][: row.VirtualSize] == content
        assert row.VirtualAddress >= end_in_memory
        assert row.PointerToRawData == end_in_file
        assert row.VirtualAddress % ALIGNMENT == row.PointerToRawData % FILE_ALIGNMENT == 0
        end_in_memory = row.VirtualAddress + row.VirtualSize
        end_in_file += row.SizeOfRawData
    assert len(made) == end_in_file
    size_of_image = U32.unpack_from(made, _OPTIONAL + SIZE_OF_IMAGE_OFFSET)[0]
    assert size_of_image >= end_in_memory
    assert size_of_image % ALIGNMENT == 0
    assert U32.unpack_from(made, _OPTIONAL + 64)[0] == 0  # the checksum would be wrong


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin"),
        (b"MZ" + bytes(2000), "no PE header"),
        (executable(machine=0xAA64), "not for x86-64"),
        (executable(headers_end=_TABLE + 40), "no room"),
        (executable()[:1030].ljust(1200, b"\0")[:1200], "cut short"),
    ],
)
def test_what_is_no_stub_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(IntegrityError, match=why):
        add_sections(data, {".linux": b"kernel"})
