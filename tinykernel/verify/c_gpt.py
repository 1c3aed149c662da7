"""Facts of the GUID partition table. Source: UEFI 2.10, section 5.3. Little-endian."""

from __future__ import annotations

import struct

SECTOR = 512
HEADER_AT = SECTOR
SIGNATURE = b"EFI PART"
HEADER_CRC = 16  # u32, over the header with zeros here
# Table 5.5: Signature, Revision, HeaderSize, HeaderCRC32, (Reserved, MyLBA, AlternateLBA,
# FirstUsableLBA, LastUsableLBA, DiskGUID), PartitionEntryLBA, NumberOfPartitionEntries,
# SizeOfPartitionEntry, PartitionEntryArrayCRC32.
HEADER = struct.Struct("<8s I I I 52x Q I I I")
assert HEADER.size == 92
# Table 5.6: PartitionTypeGUID, (UniquePartitionGUID), StartingLBA, EndingLBA.
ENTRY = struct.Struct("<16s 16x Q Q")
ENTRIES_LIMIT_BYTES = 1 << 20
EFI_SYSTEM_PARTITION = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")  # table 5.7, as stored
