"""A unified kernel image: an EFI stub with command line, kernel and initramfs as its sections.

Owns how sections are put behind those that the stub has; what is in them is the caller's. Pure.
Source: UAPI.5 "Unified Kernel Image" for the sections' names and contents. Binutils' objcopy, which
older recipes use, asks for the addresses instead of finding them and keeps what it must not
(systemd stopped using it for this), so the three tables that change are written here.
"""

from __future__ import annotations

from collections.abc import Mapping

from converter.errors import IntegrityError
from tinykernel.media.c_pe import (
    CHECKSUM_OFFSET,
    COFF_HEADER,
    DOS_MAGIC,
    E_LFANEW,
    FILE_ALIGNMENT_OFFSET,
    IMAGE_FILE_MACHINE_AMD64,
    IMAGE_SCN_CNT_INITIALIZED_DATA,
    IMAGE_SCN_MEM_READ,
    OPTIONAL_HEADER_MIN,
    OPTIONAL_MAGIC_OFFSET,
    PE32PLUS_MAGIC,
    SECTION_ALIGNMENT_OFFSET,
    SECTION_HEADER,
    SECTION_NAME_SIZE,
    SIGNATURE,
    SIZE_OF_HEADERS_OFFSET,
    SIZE_OF_IMAGE_OFFSET,
    SIZE_OF_INITIALIZED_DATA_OFFSET,
    U16,
    U32,
    CoffHeader,
    SectionHeader,
)

_READ_ONLY_DATA = IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ


def unified_kernel(
    stub: bytes, *, kernel: bytes, initrd: bytes, command_line: str, release: str, uname: str
) -> bytes:
    """Return the EFI executable that boots `kernel` with `initrd` and `command_line`.

    `stub` is systemd's linuxx64.efi.stub, `release` an os-release(5) text and `uname` the kernel's
    version, both for boot menus. Raises IntegrityError when the stub is not what it should be.
    """
    # The kernel last: it may unpack itself beyond its section's end.
    sections = {
        ".osrel": release.encode(),
        ".cmdline": command_line.encode("ascii"),
        ".uname": uname.encode("ascii"),
        ".initrd": initrd,
        ".linux": kernel,
    }
    return add_sections(stub, sections)


def add_sections(executable: bytes, sections: Mapping[str, bytes]) -> bytes:
    """Return a PE32+ executable with further read-only sections, in the order given.

    Symbols and checksum are dropped; what else follows the last section as well. Raises
    IntegrityError for what is no such executable, or has no room in its headers.
    """
    at = _coff_offset(executable)
    coff = CoffHeader._make(COFF_HEADER.unpack_from(executable, at))
    optional = at + COFF_HEADER.size
    table = optional + coff.SizeOfOptionalHeader
    if (
        coff.Machine != IMAGE_FILE_MACHINE_AMD64
        or coff.SizeOfOptionalHeader < OPTIONAL_HEADER_MIN
        or U16.unpack_from(executable, optional + OPTIONAL_MAGIC_OFFSET)[0] != PE32PLUS_MAGIC
    ):
        raise _unusable("it is not for x86-64")
    alignment = U32.unpack_from(executable, optional + SECTION_ALIGNMENT_OFFSET)[0]
    file_alignment = U32.unpack_from(executable, optional + FILE_ALIGNMENT_OFFSET)[0]
    headers_end = U32.unpack_from(executable, optional + SIZE_OF_HEADERS_OFFSET)[0]
    if not _is_power_of_two(alignment) or not _is_power_of_two(file_alignment):
        raise _unusable("its alignments are none")
    rows_at = range(table, table + coff.NumberOfSections * SECTION_HEADER.size, SECTION_HEADER.size)
    present = [SectionHeader._make(SECTION_HEADER.unpack_from(executable, row)) for row in rows_at]
    if table + (len(present) + len(sections)) * SECTION_HEADER.size > headers_end:
        raise _unusable("its section table has no room")
    begin = _up(max(s.PointerToRawData + s.SizeOfRawData for s in present), file_alignment)
    address = _up(max(s.VirtualAddress + s.VirtualSize for s in present), alignment)
    if begin > len(executable):
        raise _unusable("it is cut short")

    rows, pieces = [], []
    offset = begin
    for name, data in sections.items():
        size = _up(len(data), file_alignment)
        rows.append(
            SectionHeader(
                Name=name.encode("ascii").ljust(SECTION_NAME_SIZE, b"\0"),
                VirtualSize=len(data),
                VirtualAddress=address,
                SizeOfRawData=size,
                PointerToRawData=offset,
                PointerToRelocations=0,
                PointerToLinenumbers=0,
                NumberOfRelocations=0,
                NumberOfLinenumbers=0,
                Characteristics=_READ_ONLY_DATA,
            )
        )
        pieces.append(data.ljust(size, b"\0"))
        offset += size
        address = _up(address + len(data), alignment)

    head = bytearray(executable[:begin])
    more_data = sum(row.SizeOfRawData for row in rows)
    data_size = U32.unpack_from(head, optional + SIZE_OF_INITIALIZED_DATA_OFFSET)[0]
    U32.pack_into(head, optional + SIZE_OF_INITIALIZED_DATA_OFFSET, data_size + more_data)
    U32.pack_into(head, optional + SIZE_OF_IMAGE_OFFSET, address)
    U32.pack_into(head, optional + CHECKSUM_OFFSET, 0)
    changed = coff._replace(
        NumberOfSections=len(present) + len(rows), PointerToSymbolTable=0, NumberOfSymbols=0
    )
    COFF_HEADER.pack_into(head, at, *changed)
    free = table + len(present) * SECTION_HEADER.size
    for index, row in enumerate(rows):
        SECTION_HEADER.pack_into(head, free + index * SECTION_HEADER.size, *row)
    return b"".join([bytes(head), *pieces])


def _coff_offset(executable: bytes) -> int:
    """Return where the COFF header begins."""
    if not executable.startswith(DOS_MAGIC) or len(executable) < E_LFANEW + U32.size:
        raise _unusable("it does not begin as one")
    signature: int = U32.unpack_from(executable, E_LFANEW)[0]
    at = signature + len(SIGNATURE)
    if executable[signature:at] != SIGNATURE or len(executable) < at + 1024:
        raise _unusable("it has no PE header")
    return at


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def _is_power_of_two(value: int) -> bool:
    return value > 0 and not value & (value - 1)


def _unusable(why: str) -> IntegrityError:
    return IntegrityError(
        f"The EFI stub cannot be used: {why}.",
        expected="linuxx64.efi.stub of the package systemd-boot-efi",
    )
