"""Numbers of the x86 boot protocol: Linux, Documentation/arch/x86/boot.rst. All little endian."""

from __future__ import annotations

SETUP_SECTS = 0x1F1  # u8: 512-byte sectors of setup code after the first one
DEFAULT_SETUP_SECTS = 4  # what a 0 there means
HEADER_MAGIC = 0x202
HEADER_MAGIC_VALUE = b"HdrS"
PROTOCOL_VERSION = 0x206  # u16
KERNEL_VERSION = 0x20E  # u16: where the version's text is, less 0x200; 0: nowhere
KERNEL_VERSION_BASE = 0x200
PAYLOAD_OFFSET = 0x248  # u32, from the end of the setup code; since PAYLOAD_SINCE
PAYLOAD_SINCE = 0x208
HEADER_END = 0x250
SECTOR_BYTES = 512

MAGIC_GZIP = b"\x1f\x8b"
MAGIC_XZ = b"\xfd7zXZ\x00"
MAGIC_LZMA = b"\x5d\x00\x00"
MAGIC_BZIP2 = b"BZh"
MAGIC_ZSTD = b"\x28\xb5\x2f\xfd"
MAGIC_ELF = b"\x7fELF"
