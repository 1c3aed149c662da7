"""Small ELF files made by hand, for the tests of what reads them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tinykernel import c_elf

SectionMaker = Callable[[str, bytes], bytes]
NeedsMaker = Callable[..., bytes]


@pytest.fixture
def elf_with_section() -> SectionMaker:
    """Return a function that makes an ELF-64 file with one named section."""
    return _elf_with_section


@pytest.fixture
def elf_needing() -> NeedsMaker:
    """Return a function that makes an ELF-64 file whose dynamic section needs libraries."""
    return _elf_needing


def _elf_with_section(name: str, content: bytes) -> bytes:
    """Return an ELF-64 file with one named section."""
    names = b"\0.shstrtab\0" + name.encode() + b"\0"
    body = names + content
    names_at = c_elf.ELF64_EHDR.size
    headers_at = names_at + len(body)

    def header(name_at: int, kind: int, offset: int, size: int) -> bytes:
        return c_elf.ELF64_SHDR.pack(name_at, kind, 0, 0, offset, size, 0, 0, 1, 0)

    headers = (
        header(0, 0, 0, 0)
        + header(1, 3, names_at, len(names))
        + header(11, 1, names_at + len(names), len(content))
    )
    return _elf_header(shoff=headers_at, shnum=3, shstrndx=1) + body + headers


def _elf_needing(libraries: list[str], interpreter: str | None = None) -> bytes:
    """Return an ELF-64 file whose dynamic section needs `libraries`."""
    segments = 3 if interpreter else 2
    base = 0x400000
    at = c_elf.ELF64_EHDR.size + segments * c_elf.ELF64_PHDR.size
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in libraries)
    interpreter_bytes = interpreter.encode() + b"\0" if interpreter else b""
    dynamic_at = at + len(strings) + len(interpreter_bytes)
    dynamic = b""
    offset = 1
    for name in libraries:
        dynamic += c_elf.ELF64_DYN.pack(c_elf.DT_NEEDED, offset)
        offset += len(name) + 1
    dynamic += c_elf.ELF64_DYN.pack(c_elf.DT_STRTAB, base + at)
    dynamic += c_elf.ELF64_DYN.pack(c_elf.DT_NULL, 0)

    def segment(kind: int, start: int, size: int) -> bytes:
        return c_elf.ELF64_PHDR.pack(kind, 4, start, base + start, 0, size, size, 1)

    table = segment(c_elf.PT_LOAD, 0, dynamic_at + len(dynamic))
    if interpreter:
        table += segment(c_elf.PT_INTERP, at + len(strings), len(interpreter_bytes))
    table += segment(c_elf.PT_DYNAMIC, dynamic_at, len(dynamic))
    header = _elf_header(phoff=c_elf.ELF64_EHDR.size, phnum=segments)
    return header + table + strings + interpreter_bytes + dynamic


def _elf_header(
    *, phoff: int = 0, phnum: int = 0, shoff: int = 0, shnum: int = 0, shstrndx: int = 0
) -> bytes:
    """Return the header of a 64-bit little-endian file."""
    ident = c_elf.ELFMAG + bytes([c_elf.ELFCLASS64, c_elf.ELFDATA2LSB, 1]) + bytes(9)
    return c_elf.ELF64_EHDR.pack(
        ident,
        *(3, 62, 1, 0, phoff, shoff, 0, c_elf.ELF64_EHDR.size),
        *(c_elf.ELF64_PHDR.size, phnum, c_elf.ELF64_SHDR.size, shnum, shstrndx),
    )
