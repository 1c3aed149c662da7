"""Numbers of what a guest tells of its network cards: GuestNicProto 3, as XDR (RFC 4506).

Source: open-vm-tools, lib/guestRpc/nicinfo.x. All are 32 bits, big-endian.
"""

from __future__ import annotations

NIC_INFO_V3 = 3

IAT_IPV4 = 1
IAT_IPV6 = 2
IAS_PREFERRED = 1

# The kinds of routes and origins that open-vm-tools leaves out, we leave out.
NICINFO_MAX_NICS = 16
NICINFO_MAX_ROUTES = 100
DNSINFO_MAX_SUFFIXES = 10
DNSINFO_MAX_SERVERS = 16
DNSINFO_MAX_ADDRLEN = 255
