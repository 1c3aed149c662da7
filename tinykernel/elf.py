"""Read the few facts that we need from ELF files. Owns the parsing, not what it means.

Input is untrusted bytes: every offset is checked, a bad file raises IntegrityError, nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from converter.errors import IntegrityError
from tinykernel import c_elf

# What reading at the offsets of a damaged file can raise; OverflowError for those above 2**63.
_DAMAGE = (struct.error, ValueError, IndexError, OverflowError)


@dataclass(frozen=True, slots=True)
class DynamicNeeds:
    """What the loader must find: the interpreter's path (programs only) and DT_NEEDED names."""

    interpreter: str | None
    libraries: tuple[str, ...]


def dynamic_needs(data: bytes, *, name: str) -> DynamicNeeds:
    """Read PT_INTERP and the DT_NEEDED entries of the program or shared library `data`.

    `name` is for the error message. Raises IntegrityError when `data` is not a sound ELF-64 file.
    """
    try:
        return _dynamic_needs(data)
    except _DAMAGE as error:
        raise _damaged(name, error) from error


def section(data: bytes, wanted: str, *, name: str) -> bytes:
    """Return the content of the section called `wanted`; `name` is for the error message.

    Raises IntegrityError when `data` is not a sound ELF-64 file or has no such section.
    """
    try:
        for title, start, size in _sections(data):
            if title == wanted:
                return _slice(data, start, size)
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    raise IntegrityError(f"{name} has no section {wanted}", expected="a kernel module")


def without_unwind_tables(data: bytes, *, name: str) -> bytes:
    """Return the program or library with zeros for its unwind tables; everything stays in place.

    They are a twentieth of a program, and read by libgcc_s alone: for exceptions of C++, for
    pthread_cancel(3) and backtrace(3). Raises IntegrityError as `section` does.
    """
    blanked = bytearray(data)
    try:
        for title, start, size in _sections(data):
            if title in c_elf.UNWIND_SECTIONS:
                blanked[start : start + size] = bytes(len(_slice(data, start, size)))
    except _DAMAGE as error:
        raise _damaged(name, error) from error
    return bytes(blanked)


def _sections(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each section that has bytes in the file."""
    header = _header(data)
    offset, count, entry_size = header.sections
    headers = [
        c_elf.ELF64_SHDR.unpack_from(data, offset + index * entry_size) for index in range(count)
    ]
    names_header = headers[header.section_names]
    names = _slice(data, names_header[4], names_header[5])
    for entry in headers:
        if entry[1] != c_elf.SHT_NOBITS:
            yield _string(names, entry[0]), entry[4], entry[5]


@dataclass(frozen=True, slots=True)
class _Header:
    segments: tuple[int, int, int]  # e_phoff, e_phnum, e_phentsize
    sections: tuple[int, int, int]  # e_shoff, e_shnum, e_shentsize
    section_names: int  # e_shstrndx


def _header(data: bytes) -> _Header:
    fields = c_elf.ELF64_EHDR.unpack_from(data, 0)
    ident: bytes = fields[0]
    if not ident.startswith(c_elf.ELFMAG):
        raise ValueError("no ELF magic")
    if (ident[c_elf.EI_CLASS], ident[c_elf.EI_DATA]) != (c_elf.ELFCLASS64, c_elf.ELFDATA2LSB):
        raise ValueError("not 64-bit little endian")
    phoff, shoff = fields[5], fields[6]
    phentsize, phnum, shentsize, shnum, shstrndx = fields[9:14]
    return _Header((phoff, phnum, phentsize), (shoff, shnum, shentsize), shstrndx)


def _dynamic_needs(data: bytes) -> DynamicNeeds:
    offset, count, entry_size = _header(data).segments
    segments = [
        c_elf.ELF64_PHDR.unpack_from(data, offset + index * entry_size) for index in range(count)
    ]
    interpreter = None
    needed: list[int] = []
    string_table = None
    for kind, _flags, file_offset, _vaddr, _paddr, file_size, _memory, _align in segments:
        if kind == c_elf.PT_INTERP:
            interpreter = _string(_slice(data, file_offset, file_size), 0)
        elif kind == c_elf.PT_DYNAMIC:
            for tag, value in _dynamic_entries(_slice(data, file_offset, file_size)):
                if tag == c_elf.DT_NEEDED:
                    needed.append(value)
                elif tag == c_elf.DT_STRTAB:
                    string_table = _file_offset(segments, value)
    if not needed:
        return DynamicNeeds(interpreter, ())
    if string_table is None:
        raise ValueError("DT_NEEDED without DT_STRTAB")
    return DynamicNeeds(interpreter, tuple(_string(data, string_table + at) for at in needed))


def _dynamic_entries(table: bytes) -> Iterator[tuple[int, int]]:
    whole = len(table) - len(table) % c_elf.ELF64_DYN.size
    for tag, value in c_elf.ELF64_DYN.iter_unpack(table[:whole]):
        if tag == c_elf.DT_NULL:
            return
        yield tag, value


def _file_offset(segments: list[tuple[int, ...]], address: int) -> int:
    for kind, _flags, file_offset, vaddr, _paddr, file_size, _memory, _align in segments:
        if kind == c_elf.PT_LOAD and vaddr <= address < vaddr + file_size:
            return file_offset + address - vaddr
    raise ValueError(f"address {address:#x} is in no loaded segment")


def _slice(data: bytes, offset: int, size: int) -> bytes:
    if offset + size > len(data):
        raise ValueError(f"{size} bytes at {offset} lie beyond the file's end")
    return data[offset : offset + size]


def _string(data: bytes, offset: int) -> str:
    end = data.index(b"\0", offset)
    return data[offset:end].decode("ascii")


def _damaged(name: str, error: Exception) -> IntegrityError:
    return IntegrityError(f"{name} is not a sound ELF file: {error}", expected="ELF-64, x86-64")
