"""How layers begin, and the frames of Zstandard.

Only names and numbers. Sources: RFC 1952 section 2.3 (gzip), RFC 8878 section 3.1 (Zstandard; its
field names are used here), POSIX.1-2017 pax (tar), and the magic numbers of two formats that are
recognised to be refused.
"""

from __future__ import annotations

from struct import Struct

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BZIP2_MAGIC = b"BZh"
XZ_MAGIC = b"\xfd7zXZ\x00"
TAR_MAGIC = b"ustar"  # without the version, in which POSIX and GNU differ
TAR_MAGIC_OFFSET = 257

# gzip: ID1 ID2, CM, FLG, MTIME, XFL, OS; then what FLG announces, in this order
GZIP_HEADER = Struct("<2sBBIBB")
CM_DEFLATE = 8
FEXTRA = 0x04  # XLEN and as many bytes
FNAME = 0x08  # a text that ends with a zero
FCOMMENT = 0x10  # another
FHCRC = 0x02  # the low half of the CRC-32 of the header so far
FLG_RESERVED = 0xE0
XLEN = Struct("<H")
CRC16 = Struct("<H")
GZIP_TRAILER = Struct("<II")  # CRC32, ISIZE: both of the content, the latter modulo 2^32
RAW_DEFLATE_WBITS = -15  # zlib.h: a window of 32 KiB, neither header nor trailer

# Zstandard
MAGIC_NUMBER = Struct("<I")
ZSTD_MAGIC_NUMBER = 0xFD2FB528
SKIPPABLE_MAGIC_NUMBER = 0x184D2A50  # the low four bits are the application's
SKIPPABLE_MAGIC_MASK = 0xFFFFFFF0
SKIPPABLE_FRAME_SIZE = Struct("<I")

# Frame_Header_Descriptor
FRAME_CONTENT_SIZE_FLAG_SHIFT = 6
SINGLE_SEGMENT_FLAG = 0x20
CONTENT_CHECKSUM_FLAG = 0x04
DICTIONARY_ID_FLAG_MASK = 0x03
WINDOW_DESCRIPTOR_SIZE = 1  # absent in a single segment
DICTIONARY_ID_SIZES = (0, 1, 2, 4)
FRAME_CONTENT_SIZES = (0, 2, 4, 8)  # the first is 1 in a single segment

# Block_Header, three bytes, little-endian
BLOCK_HEADER_SIZE = 3
LAST_BLOCK = 0x1
BLOCK_TYPE_SHIFT = 1
BLOCK_TYPE_MASK = 0x3
RLE_BLOCK = 1  # its Block_Size is that of the output; one byte follows
BLOCK_SIZE_SHIFT = 3
CONTENT_CHECKSUM_SIZE = 4
