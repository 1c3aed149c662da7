"""The header of a .pyc file, as PEP 552 defines it. No logic."""

from __future__ import annotations

import struct

# magic number (importlib.util.MAGIC_NUMBER), flags, then eight bytes: here the source's hash
HEADER = struct.Struct("<4sI8s")
FLAG_HASH_BASED = 0b01  # with bit 1 (check_source) clear: never compared with a source
