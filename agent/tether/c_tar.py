"""The tar format, POSIX.1-1988 ustar with POSIX.1-2001 (pax) headers, and GNU's long names.

Owns offsets, type flags and limits only. Sources: POSIX pax(1), "ustar Interchange Format" and
"pax Extended Header"; GNU tar's manual, "Basic Tar Format", for base-256 numbers and types L and K;
star(4) for SCHILY.xattr.
"""

from __future__ import annotations

import struct

BLOCK = 512
# name mode uid gid size mtime chksum typeflag linkname magic version uname gname devmajor devminor
# prefix, padding
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
CHECKSUM = slice(148, 156)
MAGIC = b"ustar\0"
VERSION = b"00"
NAME_BYTES = 100

REGULAR = b"0"
REGULAR_V7 = b"\0"
HARD_LINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
CONTIGUOUS = b"7"
PAX = b"x"
PAX_GLOBAL = b"g"
GNU_LONG_NAME = b"L"
GNU_LONG_LINK = b"K"

PAX_PATH = b"path"
PAX_LINK = b"linkpath"
PAX_SIZE = b"size"
PAX_UID = b"uid"
PAX_GID = b"gid"
PAX_MTIME = b"mtime"
PAX_XATTR = b"SCHILY.xattr."
# The text value of capabilities would be of no use: the attribute's bytes are kept as they are.

MAX_EXTENSION_BYTES = 1 << 20  # of one extended header: an attribute has at most 64 KiB
