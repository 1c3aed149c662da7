"""The legacy format of lz4: the one that Linux unpacks.

Source: lz4_Frame_format.md, "Legacy frame", and lib/decompress_unlz4.c of Linux, which also takes a
size of 0 for the end.
"""

from __future__ import annotations

import struct

MAGIC = b"\x02\x21\x4c\x18"
SIZE = struct.Struct("<I")  # of a block as it is compressed; the block follows
END = SIZE.pack(0)
BLOCK_BYTES = 8 << 20  # what each block but the last one unpacks to
PACKED_BYTES_MAX = BLOCK_BYTES + BLOCK_BYTES // 255 + 16  # LZ4_COMPRESSBOUND
