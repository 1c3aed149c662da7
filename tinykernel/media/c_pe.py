"""Facts of the Portable Executable format (PE32+), named as the specification names them.

Source: Microsoft, "PE Format" (the PE and COFF specification). All integers are little-endian;
addresses in memory are relative to where the image is loaded (RVA), others count from the file's
start.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

DOS_MAGIC = b"MZ"
E_LFANEW = 0x3C  # where in the DOS header the offset of the signature stands, u32
SIGNATURE = b"PE\0\0"

IMAGE_FILE_MACHINE_AMD64 = 0x8664


class CoffHeader(NamedTuple):
    """Behind the signature ("COFF File Header")."""

    Machine: int
    NumberOfSections: int
    TimeDateStamp: int
    PointerToSymbolTable: int
    NumberOfSymbols: int
    SizeOfOptionalHeader: int
    Characteristics: int


COFF_HEADER = struct.Struct("<H H I I I H H")

# Of the optional header, which follows; its own length is in SizeOfOptionalHeader.
PE32PLUS_MAGIC = 0x20B
OPTIONAL_MAGIC_OFFSET = 0  # u16
SIZE_OF_INITIALIZED_DATA_OFFSET = 8  # u32
SECTION_ALIGNMENT_OFFSET = 32  # u32, a power of two
FILE_ALIGNMENT_OFFSET = 36  # u32, a power of two
SIZE_OF_IMAGE_OFFSET = 56  # u32, a multiple of SectionAlignment
SIZE_OF_HEADERS_OFFSET = 60  # u32, a multiple of FileAlignment
CHECKSUM_OFFSET = 64  # u32; firmware does not look at it, 0 stands for none
U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
OPTIONAL_HEADER_MIN = CHECKSUM_OFFSET + U32.size

IMAGE_SCN_CNT_INITIALIZED_DATA = 0x0000_0040
IMAGE_SCN_MEM_READ = 0x4000_0000
SECTION_NAME_SIZE = 8


class SectionHeader(NamedTuple):
    """One row of the section table, which follows the optional header ("Section Table")."""

    Name: bytes  # padded with zeros
    VirtualSize: int
    VirtualAddress: int
    SizeOfRawData: int  # a multiple of FileAlignment
    PointerToRawData: int
    PointerToRelocations: int
    PointerToLinenumbers: int
    NumberOfRelocations: int
    NumberOfLinenumbers: int
    Characteristics: int


SECTION_HEADER = struct.Struct("<8s I I I I I I H H I")
assert SECTION_HEADER.size == 40

# Data directories ("Optional Header Data Directories"), from here on in the optional header: an
# offset and a size each. That of certificates counts from the file's start, unlike the others.
DATA_DIRECTORIES_OFFSET = 112
DATA_DIRECTORY_SIZE = 8
CERTIFICATE_TABLE_INDEX = 4
DATA_DIRECTORY = struct.Struct("<I I")

# "The Attribute Certificate Table": dwLength with this header, wRevision, wCertificateType.
WIN_CERTIFICATE = struct.Struct("<I H H")
WIN_CERT_TYPE_PKCS_SIGNED_DATA = 0x0002
