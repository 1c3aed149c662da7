"""Facts of the FAT file system that reading one file needs, named as the specification names them.

Source: Microsoft, "FAT: General Overview of On-Disk Format" 1.03 (fatgen103). Little-endian.
"""

from __future__ import annotations

import struct

# From byte 11 of the first sector: BPB_BytsPerSec, BPB_SecPerClus, BPB_RsvdSecCnt, BPB_NumFATs,
# BPB_RootEntCnt, BPB_TotSec16, (BPB_Media), BPB_FATSz16, (three fields), BPB_TotSec32.
BPB_OFFSET = 11
BPB = struct.Struct("<H B H B H H x H 8x I")
BPB_FATSZ32 = 36  # u32, where BPB_FATSz16 is 0
BPB_ROOTCLUS = 44  # u32, of FAT32
BOOT_SECTOR_BYTES = 512

# The count of clusters alone decides the type.
FAT12_CLUSTERS_END = 4085
FAT16_CLUSTERS_END = 65525
FIRST_CLUSTER = 2

DIRECTORY_ENTRY = 32
# DIR_Name, DIR_Attr, ..., DIR_FstClusHI, ..., DIR_FstClusLO, DIR_FileSize
DIR = struct.Struct("<11s B 8x H 4x H I")
assert DIR.size == DIRECTORY_ENTRY
DIR_END = 0x00  # as a name's first byte: no entry from here on
DIR_FREE = 0xE5
ATTR_VOLUME_ID = 0x08  # also of long names
ATTR_DIRECTORY = 0x10
