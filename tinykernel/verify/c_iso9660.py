"""Facts of ISO 9660 and El Torito that reading our own image needs. Only names and numbers.

Sources: ECMA-119, by section; "El Torito" Bootable CD-ROM Format 1.0, by figure. Where ECMA-119
records a number in both byte orders, the little-endian one is taken.
"""

from __future__ import annotations

import struct

SECTOR = 2048
STANDARD_ID = b"CD001"
PRIMARY_AT = 16 * SECTOR  # 6.7.1: the first volume descriptor
PRIMARY_BEGIN = b"\x01" + STANDARD_ID + b"\x01"  # 8.4
ROOT_RECORD = 156  # 8.4.18: of the primary volume descriptor
BOOT_RECORD_BEGIN = b"\x00" + STANDARD_ID + b"\x01" + b"EL TORITO SPECIFICATION"  # figure 7
BOOT_CATALOG = 0x47  # u32, a sector
VOLUME_DESCRIPTORS_MAX = 16

# 9.1: length, (extended attributes), extent, (big-endian), size, (big-endian, date), flags,
# (three fields), length of the name, which follows.
DIRECTORY_RECORD = struct.Struct("<B x I 4x I 4x 7x B 6x B")
FLAG_DIRECTORY = 2  # 9.1.6

CATALOG_ENTRY = 32
VALIDATION_BEGIN = b"\x01"  # figure 2: header id
SECTION_HEADERS = (0x90, 0x91)  # figure 4: more follow, or this is the last
BOOTABLE = 0x88  # figure 3
PLATFORM_EFI = 0xEF  # UEFI 2.10, 13.3.2.1
# Figures 3 and 5: indicator, (media, segment, system type, one unused), sectors, first sector.
BOOT_ENTRY = struct.Struct("<B 5x H I")
