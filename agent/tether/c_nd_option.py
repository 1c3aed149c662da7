"""Options of a router's advertisement, under the names of RFC 4861 and RFC 8106; big-endian.

Owns constants and structures only.
"""

from __future__ import annotations

import struct

# RFC 4861, 4.6: type, and length in units of 8 bytes with this header
OPTION = struct.Struct(">BB")
UNIT = 8

# RFC 8106, 5.1 and 5.2: a reserved field and a lifetime in seconds follow the header in both, and
# then addresses, or names of labels as DNS has them, with zeros behind the last one
RECURSIVE_DNS_SERVER = 25
DNS_SEARCH_LIST = 31
LIFETIME = struct.Struct(">2xI")
INFINITY = 0xFFFFFFFF
ADDRESS_BYTES = 16
