"""Kernel files that are none but in their headers, for what reads them."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable

from tinykernel.kernel import c_bzimage


def kernel_file(config: bytes | None, pack: Callable[[bytes], bytes] = gzip.compress) -> bytes:
    """Return a kernel file as the boot protocol has it, with nothing in it but a configuration."""
    inner = b"\x7fELF" + bytes(100)
    if config is not None:
        inner += b"IKCFG_ST" + gzip.compress(config) + b"IKCFG_ED"
    payload = pack(inner) + struct.pack("<I", len(inner))
    setup = bytearray(2 * 512)
    setup[c_bzimage.SETUP_SECTS] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, c_bzimage.PROTOCOL_VERSION, 0x20F)
    struct.pack_into("<H", setup, c_bzimage.KERNEL_VERSION, 0x300 - 0x200)
    struct.pack_into("<II", setup, c_bzimage.PAYLOAD_OFFSET, 64, len(payload))
    text = b"6.1.0-test (who@where) #1 SMP\0"
    setup[0x300 : 0x300 + len(text)] = text
    return bytes(setup) + bytes(64) + payload
