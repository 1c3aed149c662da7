"""What an exported machine's guest is told: the document that every run of ours has, made once.

There is no host that knows the machine, so three things differ from a run: the key of the channel
is one for all boots or none, the network is what DHCP and routers say, and the line is a serial
port.
"""

from __future__ import annotations

import re
from uuid import UUID

from converter.export.exportable import Exportable
from converter.identity import identity_of
from converter.machine.model import Channel, GuestConfig, RunConfig

_VMWARE_PREFIX = "00:50:56"  # of addresses that are given by hand, which end at 3f:ff:ff
_LAST_OCTET_MASK = 0x3F
_NOT_IN_HOST_NAMES = re.compile(r"[^A-Za-z0-9.-]+")
_HOST_NAME_LENGTH = 63  # what Linux takes is one more


def guest_document(
    source: Exportable,
    *,
    key: bytes | None,
    mac: str,
    hostname: str,
) -> bytes:
    """Return the document for a machine with one network card, of the address `mac`.

    `key` are the 32 bytes that authenticate whoever is at the line's other end. Without one the
    document is for an OVF environment: the guest then makes one that nobody knows.
    """
    guest = GuestConfig(
        root_uuid=str(UUID(bytes=identity_of(source.links[0].link_id).uuid)),
        hostname=hostname,
        image=source.image.config.execution,
        run=RunConfig(),  # as the image says
    )
    network = {"interfaces": [{"mac": mac, "dhcp": True, "slaac": True}]}
    return guest.encode(Channel.SERIAL, key, network=network)


def mac_address(source: Exportable) -> str:
    """Return the address of the machine's card, which follows from the chain."""
    digits = source.identity("mac")
    first = int(digits[:2], 16) & _LAST_OCTET_MASK
    return f"{_VMWARE_PREFIX}:{first:02x}:{digits[2:4]}:{digits[4:6]}"


def host_name(name: str) -> str:
    """Return `name` as a host may be called: with dashes for all that none may have in it."""
    kept = _NOT_IN_HOST_NAMES.sub("-", name)[:_HOST_NAME_LENGTH].strip("-.")
    return kept or "guest"
