"""Is this VMware's machine.

Owns the signs. Everything that only VMware's machines need is imported behind this.
"""

from __future__ import annotations

from agent.hints import Iterable
from agent.tether.c_linux import PCI_VMWARE_VMCI
from agent.tether.modules import PciId

VENDOR_FILE = "/sys/class/dmi/id/sys_vendor"
VENDOR = "VMware, Inc."


def is_here(ids: Iterable[PciId], vendor_file: str = VENDOR_FILE) -> bool:
    """Say whether a machine with these devices is VMware's.

    One without the VMCI device, whose `vmci0.present` is false, has virtual sockets to nobody; the
    backdoor is then the way.
    """
    if PCI_VMWARE_VMCI in ids:
        return True
    try:
        with open(vendor_file, encoding="ascii", errors="replace") as file:
            return file.read().strip() == VENDOR
    except OSError:
        return False
