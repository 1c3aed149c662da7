"""Where the ext4 superblock keeps the few fields that tether reads.

Owns offsets only; source: Linux Documentation/filesystems/ext4/super.rst. All fields are little
endian, offsets are from the superblock's own start.
"""

from __future__ import annotations

SUPERBLOCK_OFFSET = 0x400  # from the start of the device
SUPERBLOCK_BYTES = 1024

S_BLOCKS_COUNT_LO = 0x4
S_LOG_BLOCK_SIZE = 0x18  # block size is 2 ^ (10 + this)
S_MAGIC = 0x38
S_FEATURE_INCOMPAT = 0x60
S_UUID = 0x68
S_BLOCKS_COUNT_HI = 0x150

EXT4_SUPER_MAGIC = 0xEF53
INCOMPAT_64BIT = 0x80
EXT4_MAX_BLOCK_LOG_SIZE = 6  # 64 KiB
